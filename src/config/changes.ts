// What differs between two configurations, by the keys of the file, and what of it only a restart
// brings into force.
import { settingsId } from '../upstream/network/settings-id.ts'
import type { Config, HostConfig, Mirror } from './config.ts'
import { formatPath, type KeyPath } from './problem.ts'

/** What is bound or opened once, at the start. */
const ONLY_AT_START = ['listen', 'admin.listen', 'storage.driver', 'storage.directory', 'tls']

/** The keys whose values differ: `freshness.ttl`, `mirrors."docker.io"`. */
export function changedKeys(before: Config, after: Config): string[] {
  const [one, other] = [idsOf(before), idsOf(after)]
  const keys = [...new Set([...one.keys(), ...other.keys()])]
  return keys.filter((key) => one.get(key) !== other.get(key))
}

/** Of what a server that runs with `running` would have to be restarted for. */
export function restartKeys(running: Config, wanted: Config): string[] {
  const keys = changedKeys(running, wanted).filter((key) => ONLY_AT_START.includes(key))
  const isSwitched = (running.tls === undefined) !== (wanted.tls === undefined)
  return isSwitched ? [...keys, 'tls'] : keys
}

/** `wanted`, but for what only a restart brings. */
export function withoutRestart(running: Config, wanted: Config): Config {
  const { tls: wantedTls, ...rest } = wanted
  const tls = running.tls && (wantedTls ?? running.tls)
  const { listen, storage } = running
  const admin = { ...wanted.admin, listen: running.admin.listen }
  return { ...rest, listen, storage, admin, ...(tls && { tls }) }
}

/** A configs entry without where it is written. */
export function settingsOfHost(host: HostConfig): Omit<HostConfig, 'place'> {
  const { place: _place, ...settings } = host
  return settings
}

/** What a mirrors entry means, without where and how it is written: equal for equal meaning. */
export function settingsOfMirror(mirror: Mirror): object {
  const { registry, endpoints, rewrites, hosts } = mirror
  return {
    registry,
    endpoints: endpoints.map(({ key }) => key),
    rewrites: rewrites.map(({ rewrite }) => [rewrite.pattern, rewrite.replacement]),
    hosts,
  }
}

function idsOf(config: Config): Map<string, string> {
  const { mirrors, configs, listen, admin, ...rest } = config
  const values: (readonly [KeyPath, unknown])[] = [
    [['listen'], listen],
    ...Object.entries(admin).map(([key, value]) => [['admin', key], value] as const),
    ...mirrors.map((each) => [['mirrors', each.registry], settingsOfMirror(each)] as const),
    ...Object.entries(configs).map(([host, each]) => {
      return [['configs', host], settingsOfHost(each)] as const
    }),
    ...Object.entries(rest).flatMap(([key, value]) => sectionOf(key, value)),
  ]
  return new Map(values.map(([path, value]) => [formatPath(path), settingsId(value)]))
}

function sectionOf(key: string, value: unknown): [KeyPath, unknown][] {
  const isSection = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!isSection) return [[[asWritten(key)], value]]
  return Object.entries(value).map(([part, each]) => [[key, asWritten(part)], each])
}

/** The file has units in the values, we have them in the names. */
function asWritten(key: string): string {
  return key.replace(/(?:Ms|Bytes)$/, '')
}
