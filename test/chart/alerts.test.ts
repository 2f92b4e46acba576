import { readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { expect, test } from 'vitest'
import { metricsAsked, realMetrics } from './metric-names.ts'
import { objectOf } from './rendered.ts'

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: Readonly<Record<string, string>>
}

interface Groups {
  readonly groups: readonly { readonly rules: readonly Rule[] }[]
}

const rulesOf = ({ groups }: Groups) => groups.flatMap(({ rules }) => rules)
const RULES = rulesOf(parse(readFileSync('helm/chandlery/rules/alerts.yaml', 'utf8')) as Groups)
const rendered = (name: string) => rulesOf(objectOf(name, 'PrometheusRule')['spec'] as Groups)

test.each(RULES)('$alert asks for metrics and labels that exist', async ({ expr }) => {
  const real = await realMetrics()
  const asked = metricsAsked(expr)
  expect(asked.length).toBeGreaterThan(0)
  for (const { metric, labels } of asked) {
    expect([...real.keys()]).toContain(metric)
    expect([...(real.get(metric) ?? []), 'job']).toEqual(expect.arrayContaining([...labels]))
  }
})

test.each(RULES)('$alert has a severity, a meaning and a remedy', (rule) => {
  expect(rule.alert).toMatch(/^Chandlery[A-Z]/)
  expect(['critical', 'warning', 'info']).toContain(rule.labels.severity)
  const { summary = '', description = '', runbook = '' } = rule.annotations
  expect([summary, description, runbook].map((text) => text.length > 15)).toEqual([
    true,
    true,
    true,
  ])
})

test('a release asks only for its own namespace and job', () => {
  for (const { alert, expr } of rendered('node-port')) {
    const asked = metricsAsked(expr)
    expect(
      asked.map(({ labels }) => labels),
      alert,
    ).toEqual(asked.map(() => expect.arrayContaining(['namespace', 'job'])))
    expect(expr).not.toContain('job="chandlery", job')
  }
})

const nearlyFull = (name: string) =>
  rendered(name).find(({ alert }) => alert === 'ChandleryStoreNearlyFull')?.expr

test("the volume's size is known where the chart makes it, and its alert is left out elsewhere", () => {
  expect(nearlyFull('everything')).toMatch(/> 0\.85 \* 1099511627776$/)
  expect(nearlyFull('node-port')).toMatch(/> 0\.85 \* 21474836480$/)
  expect(nearlyFull('host-port')).toBeUndefined()
})

test('alerts can be left out, labelled and added to', () => {
  const rules = rendered('everything')
  const alerts = rules.filter(({ alert }) => alert)
  expect(alerts.map(({ alert }) => alert)).not.toContain('ChandleryServingStale')
  expect(alerts.map(({ labels }) => labels)).toEqual(
    alerts.map(() => expect.objectContaining({ team: 'platform' })),
  )
  expect(rules).toHaveLength(RULES.length)
})
