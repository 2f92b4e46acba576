import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { metricsAsked, realMetrics } from './metric-names.ts'

interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: {
    readonly x: number
    readonly y: number
    readonly w: number
    readonly h: number
  }
  readonly targets?: readonly { readonly expr: string }[]
}

const { panels, uid } = JSON.parse(
  readFileSync('helm/chandlery/dashboards/chandlery.json', 'utf8'),
) as { panels: Panel[]; uid: string }
const shown = panels.filter(({ type }) => type !== 'row')
const expressions = shown.flatMap(({ title, targets = [] }) =>
  targets.map(({ expr }): [string, string] => [title, expr]),
)

describe('the dashboard', () => {
  test('has a fixed name and panels that query something', () => {
    expect(uid).toBe('chandlery')
    expect(shown.length).toBeGreaterThan(15)
    expect(shown.filter(({ targets = [] }) => targets.length === 0)).toEqual([])
  })

  test.each(expressions)('asks in "%s" for metrics and labels that exist', async (_, expr) => {
    const real = await realMetrics()
    const asked = metricsAsked(expr)
    expect(asked.length).toBeGreaterThan(0)
    for (const { metric, labels } of asked) {
      expect([...real.keys()]).toContain(metric)
      expect([...(real.get(metric) ?? []), 'job', 'instance']).toEqual(
        expect.arrayContaining([...labels]),
      )
    }
  })

  test('has a panel for each of our metrics except the aliases', async () => {
    const asked = new Set(
      expressions.flatMap(([, expr]) => metricsAsked(expr)).map((m) => m.metric),
    )
    const ours = [...(await realMetrics()).keys()].filter((name) => name.startsWith('chandlery_'))
    const missing = ours.filter((name) => !asked.has(name) && !/_(sum|count)$/.test(name))
    expect(missing).toEqual([])
  })

  test('has panels that do not overlap, each with its own id', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    )
    expect(new Set(cells).size).toBe(cells.length)
    expect(Math.max(...panels.map(({ gridPos }) => gridPos.x + gridPos.w))).toBe(24)
  })
})

describe('metricsAsked', () => {
  test('finds a metric that does not exist, and a label', () => {
    const asked = metricsAsked('sum by (no_label) (rate(no_metric{no="x"}[5m])) / no_total')
    expect(asked).toEqual([
      { metric: 'no_metric', labels: ['no'] },
      { metric: 'no_total', labels: [] },
    ])
  })
})
