import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import configSchema from '../../config.schema.json' with { type: 'json' }
import packageJson from '../../package.json' with { type: 'json' }
import { parseDuration } from '../../src/config/units.ts'
import { composeMounts, hostPath } from '../support/compose-mounts.ts'

const ROOT = join(import.meta.dirname, '../..')
const DOCKER = join(ROOT, 'docker')

interface Service {
  readonly image: string
  readonly build?: { readonly args?: Readonly<Record<string, string>> }
  readonly ports?: readonly string[]
  readonly stop_grace_period?: string
}
interface Datasource {
  readonly type: string
  readonly uid: string
  readonly url: string
}

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8')
const services: Record<string, Service> = parse(read('docker/compose.yaml')).services
const prometheus = parse(read('docker/prometheus/prometheus.yml'))

describe('docker/compose.yaml', () => {
  const mounts = Object.keys(services).flatMap((name) => composeMounts(name))

  test('mounts existing files, read-only', () => {
    expect(mounts.length).toBeGreaterThan(2)
    for (const { source, mode } of mounts) {
      expect(existsSync(source), source).toBe(true)
      expect(mode).toBe('ro')
    }
  })

  test.each(Object.entries(services))('says exactly which image %s is', (_name, { image }) => {
    expect(image).toMatch(/:v?\d+\.\d+\.\d+$/)
  })

  test('runs this version of Chandlery, and passes it on', () => {
    expect(services.chandlery?.image).toBe(`chandlery:${packageJson.version}`)
    expect(services.chandlery?.build?.args?.VERSION).toBe(packageJson.version)
  })

  test('opens nothing but the registry API beyond this machine', () => {
    const ports = Object.values(services).flatMap((service) => service.ports ?? [])
    expect(ports.filter((port) => !port.startsWith('127.0.0.1:'))).toEqual(['5000:5000'])
  })

  test('gives running responses the time that Chandlery gives them', () => {
    const { shutdownDelay, shutdownTimeout } = configSchema.properties
    const stopping = parseDuration(shutdownDelay.default) + parseDuration(shutdownTimeout.default)
    const grace = parseDuration(services.chandlery?.stop_grace_period ?? '')
    expect(grace).toBeGreaterThan(stopping)
  })
})

describe('its Prometheus', () => {
  test("scrapes a service at the port of the image's metrics", () => {
    const [job] = prometheus.scrape_configs
    const [, port] = /CHANDLERY_ADMIN_LISTEN=\S+:(\d+)/.exec(read('Dockerfile')) ?? []
    expect(job.static_configs).toEqual([{ targets: [`chandlery:${port}`] }])
    expect(services).toHaveProperty('chandlery')
  })

  test("reads the chart's alerts, which are for the job that it has", () => {
    const patterns: string[] = prometheus.rule_files
    const found = patterns.map((pattern) => {
      const path = hostPath('prometheus', join('/etc/prometheus', pattern))
      return path === undefined ? [] : globSync(path)
    })
    expect(found.length).toBeGreaterThan(0)
    for (const files of found) expect(files).not.toEqual([])
    const jobs = found.flat().flatMap((file) => {
      return [...readFileSync(file, 'utf8').matchAll(/job="([^"]+)"/g)].map(([, job]) => job)
    })
    expect(new Set(jobs)).toEqual(new Set([prometheus.scrape_configs[0].job_name]))
  })
})

describe('its Grafana', () => {
  const provisioning = 'docker/grafana/provisioning'
  const [source]: Datasource[] = parse(
    read(`${provisioning}/datasources/prometheus.yaml`),
  ).datasources
  const [provider] = parse(read(`${provisioning}/dashboards/chandlery.yaml`)).providers
  const folder = hostPath('grafana', provider.options.path) ?? ''
  const dashboards = readdirSync(folder).filter((name) => name.endsWith('.json'))

  test('asks the Prometheus beside it', () => {
    const { hostname, port } = new URL(source?.url ?? '')
    expect(Object.keys(services)).toContain(hostname)
    expect(services[hostname]?.ports).toContain(`127.0.0.1:${port}:${port}`)
  })

  test('finds its provisioning where it looks for it', () => {
    expect(hostPath('grafana', '/etc/grafana/provisioning')).toBe(join(ROOT, provisioning))
    expect(readdirSync(join(DOCKER, 'grafana/provisioning'))).toEqual(['dashboards', 'datasources'])
  })

  test('begins with a dashboard that exists', () => {
    const [, path = ''] = /HOME_DASHBOARD_PATH: (\S+)/.exec(read('docker/compose.yaml')) ?? []
    expect(existsSync(hostPath('grafana', path) ?? '')).toBe(true)
  })

  test.each(dashboards)('has the data source that %s asks for', (name) => {
    const text = readFileSync(join(folder, name), 'utf8')
    const variables: { name: string; type: string; query: string }[] =
      JSON.parse(text).templating.list
    const chosen = variables.filter(({ type }) => type === 'datasource')
    expect(chosen.map(({ query }) => query)).toEqual(chosen.map(() => source?.type))
    const uids = [...text.matchAll(/"datasource": \{[^}]*"uid": "([^"]+)"/g)].map(([, uid]) => uid)
    expect(uids.length).toBeGreaterThan(3)
    const known = [source?.uid, ...chosen.map((variable) => `\${${variable.name}}`)]
    for (const uid of uids) expect(known).toContain(uid)
  })
})
