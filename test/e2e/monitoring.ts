// docker/compose.yaml's Prometheus, as Debian has it, with the files that the service mounts: it sees
// Chandlery, evaluates the chart's alerts and answers every query of the dashboards.
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parse, stringify } from 'yaml'
import { composeMounts, hostPath } from '../support/compose-mounts.ts'
import { startRegistry } from '../support/registry.ts'
import { Chandlery } from './chandlery.ts'
import { answers, Daemon, freePort, run } from './processes.ts'
import { print, type Report } from './report.ts'
import { skopeoPull } from './skopeo.ts'

const CONFIG = '/etc/prometheus/prometheus.yml'
const JOB = 'chandlery'
/** What Grafana puts in for its variables. */
const VARIABLES = {
  __rate_interval: '1m',
  __interval: '15s',
  __range: '1h',
  job: JOB,
  instance: '.*',
}
/** Queries that have an answer as soon as something was pulled. */
const ANSWERED = /chandlery_(build_info|store_bytes|http_requests_total|upstream_bytes_total)/

/** Chandlery and Prometheus on the loopback, and everything that is asked of them. */
export async function checkMonitoring(report: Report, directory: string): Promise<void> {
  const root = `${directory}/root`
  for (const { source, target } of composeMounts('prometheus')) {
    await mkdir(dirname(root + target), { recursive: true })
    await cp(source, root + target, { recursive: true })
  }
  await report.check("promtool finds nothing wrong with compose's Prometheus", async () => {
    print(`        ${await checkedRules(root + CONFIG)} rules`)
  })
  await using stack = new AsyncDisposableStack()
  const chandlery = stack.use(await busyChandlery(directory, stack))
  const url = await startPrometheus(root, chandlery, directory, stack)
  await report.check('its Prometheus sees Chandlery', async () => {
    await until(async () => {
      const { activeTargets } = await ask<Targets>(url, 'targets')
      const [target] = activeTargets
      if (target?.labels.job === JOB && target.health === 'up') return ''
      return JSON.stringify(activeTargets)
    })
  })
  await report.check('its alerts are evaluated, and none fires', async () => {
    await until(async () => {
      const rules = (await ask<Rules>(url, 'rules')).groups.flatMap((group) => group.rules)
      const wrong = rules.filter(({ health, state }) => health !== 'ok' || state === 'firing')
      return rules.length > 0 && wrong.length === 0 ? '' : JSON.stringify(wrong)
    })
  })
  await report.check('it answers every query of the dashboards', async () => {
    const queries = await dashboardQueries()
    await until(async () => await unanswered(url, queries))
    print(`        ${queries.length} queries`)
  })
}

interface Targets {
  readonly activeTargets: readonly { labels: { job: string }; health: string }[]
}
interface Rules {
  readonly groups: readonly { rules: readonly { health: string; state?: string }[] }[]
}

/** How many rules promtool found in the files that the configuration names. */
async function checkedRules(config: string): Promise<number> {
  const output = await run('promtool', ['check', 'config', config])
  const rules = [...output.matchAll(/SUCCESS: (\d+) rules found/g)].map(([, count]) =>
    Number(count),
  )
  const sum = rules.reduce((total, count) => total + count, 0)
  if (sum === 0) throw new Error(output)
  return sum
}

/** One that has been pulled through, cold and held, so that its metrics say something. */
async function busyChandlery(directory: string, stack: AsyncDisposableStack): Promise<Chandlery> {
  const registry = stack.use(await startRegistry())
  registry.addImage('team/app', 'v1', { layers: 3, seed: 'watched' })
  const config = { mirrors: { 'hub.test': { endpoint: [registry.url] } } }
  const chandlery = await Chandlery.create({ directory: `${directory}/chandlery`, config })
  await chandlery.start()
  const image = `${chandlery.host}/hub.test/team/app:v1`
  for (const name of ['cold', 'held']) await skopeoPull(image, `${directory}/${name}`, false)
  return chandlery
}

// Only what has to differ here: the address, and how often.
async function startPrometheus(
  root: string,
  chandlery: Chandlery,
  directory: string,
  stack: AsyncDisposableStack,
): Promise<string> {
  const config = parse(await readFile(root + CONFIG, 'utf8'))
  config.scrape_configs[0].static_configs[0].targets = [new URL(chandlery.adminUrl).host]
  config.global = { scrape_interval: '1s', evaluation_interval: '1s' }
  await writeFile(root + CONFIG, stringify(config))
  const host = `127.0.0.1:${await freePort()}`
  const flags = [
    `--config.file=${root}${CONFIG}`,
    `--storage.tsdb.path=${directory}/prometheus`,
    `--web.listen-address=${host}`,
  ]
  const log = `${directory}/prometheus.log`
  const prometheus = stack.use(new Daemon('prometheus', 'prometheus', flags, log))
  await prometheus.until(async () => await answers(`http://${host}/-/ready`, 200), 30_000)
  return `http://${host}`
}

/** Every query of every panel, as Grafana sends it. */
async function dashboardQueries(): Promise<string[]> {
  const folder = hostPath('grafana', '/etc/grafana/dashboards') ?? ''
  const files = (await readdir(folder)).filter((name) => name.endsWith('.json'))
  const queries: string[] = []
  for (const file of files) {
    JSON.parse(await readFile(`${folder}/${file}`, 'utf8'), (key, value) => {
      if (key === 'expr' && typeof value === 'string') queries.push(value)
      return value
    })
  }
  if (queries.length === 0) throw new Error(`no query in ${folder}`)
  return queries.map((query) => {
    return query.replaceAll(/\$\{?(\w+)\}?/g, (text, name: string) => {
      const value = Object.entries(VARIABLES).find(([known]) => known === name)?.[1]
      if (value === undefined) throw new Error(`${text} is not known here: ${query}`)
      return value
    })
  })
}

/** The queries that fail, or that should have an answer and have none. */
async function unanswered(url: string, queries: readonly string[]): Promise<string> {
  const problems = queries.map(async (query) => {
    const { result } = await ask<{ result: unknown[] }>(url, 'query', { query })
    return result.length === 0 && ANSWERED.test(query) ? `no answer: ${query}` : ''
  })
  return (await Promise.all(problems)).filter((problem) => problem !== '').join('\n')
}

async function ask<T>(url: string, what: string, query: Record<string, string> = {}): Promise<T> {
  const target = `${url}/api/v1/${what}?${new URLSearchParams(query).toString()}`
  const response = await fetch(target, { signal: AbortSignal.timeout(10_000) })
  const { status, data, error } = JSON.parse(await response.text())
  if (status !== 'success') throw new Error(`${error}: ${JSON.stringify(query)}`)
  return data
}

/** Waits until nothing is wrong any more; fails with what is. */
async function until(wrong: () => Promise<string>): Promise<void> {
  const deadline = Date.now() + 20_000
  for (;;) {
    const problem = await wrong()
    if (problem === '') return
    if (Date.now() > deadline) throw new Error(problem)
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}
