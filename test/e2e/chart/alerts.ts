// The alerts and the dashboard's questions as Prometheus understands them.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { objectOf } from '../../chart/rendered.ts'
import { run } from '../processes.ts'
import type { Report } from '../report.ts'

export async function checkAlerts(report: Report, directory: string): Promise<void> {
  await report.check('promtool takes the alerts, plain and rendered', async () => {
    await run('promtool', ['check', 'rules', 'helm/chandlery/rules/alerts.yaml'])
    for (const name of ['everything', 'node-port', 'host-port'])
      await run('promtool', ['check', 'rules', await rendered(name)])
  })
  await report.check('the alerts go off when they should, and not before', async () => {
    const file = join(directory, 'tests.yaml')
    const rules = await rendered('node-port')
    const tests = await readFile('test/chart/alerts.yaml', 'utf8')
    await writeFile(file, tests.replaceAll('RULES', rules))
    await run('promtool', ['test', 'rules', file])
  })
  await report.check('promtool takes every question of the dashboard', async () => {
    const file = join(directory, 'dashboard.yaml')
    await writeFile(file, stringify({ groups: [{ name: 'dashboard', rules: await questions() }] }))
    await run('promtool', ['check', 'rules', '--lint=none', file])
  })

  async function rendered(name: string): Promise<string> {
    const { spec } = objectOf(name, 'PrometheusRule')
    const file = join(directory, `${name}.rules.yaml`)
    await writeFile(file, stringify(spec))
    return file
  }
}

async function questions(): Promise<{ record: string; expr: string }[]> {
  const text = await readFile('helm/chandlery/dashboards/chandlery.json', 'utf8')
  const { panels } = JSON.parse(text) as { panels: { targets?: { expr: string }[] }[] }
  return panels
    .flatMap(({ targets = [] }) => targets)
    .map(({ expr }, i) => ({
      record: `dashboard:question${i}`,
      expr: expr.replaceAll('$__rate_interval', '5m'),
    }))
}
