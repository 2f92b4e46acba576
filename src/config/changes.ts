// The differences between two configurations, by the keys of the file, and which of them take
// effect only after a restart.
import { settingsId } from '../upstream/network/settings-id.ts'
import type { Config, HostConfig, Mirror } from './config.ts'
import { formatPath, type KeyPath } from './problem.ts'

/** The keys of what is bound or opened once, at startup. */
const RESTART_KEYS = ['listen', 'admin.listen', 'storage.driver', 'storage.directory', 'tls']

/** Returns the keys whose values differ, such as `freshness.ttl` or `mirrors."docker.io"`. */
export function changedKeys(before: Config, after: Config): string[] {
  const [one, other] = [idsOf(before), idsOf(after)]
  const keys = [...new Set([...one.keys(), ...other.keys()])]
  return keys.filter((key) => one.get(key) !== other.get(key))
}

/** Returns the changed keys for which a server that runs with `running` must be restarted. */
export function restartKeys(running: Config, wanted: Config): string[] {
  const keys = changedKeys(running, wanted).filter((key) => RESTART_KEYS.includes(key))
  const isSwitched = (running.tls === undefined) !== (wanted.tls === undefined)
  return isSwitched ? [...keys, 'tls'] : keys
}

/** Returns `wanted` with the values of `running` wherever a change needs a restart. */
export function withoutRestart(running: Config, wanted: Config): Config {
  const { tls: wantedTls, ...rest } = wanted
  const tls = running.tls && (wantedTls ?? running.tls)
  const { listen, storage } = running
  const admin = { ...wanted.admin, listen: running.admin.listen }
  return { ...rest, listen, storage, admin, ...(tls && { tls }) }
}

/** Returns a configs entry without its place in the file. */
export function settingsOfHost(host: HostConfig): Omit<HostConfig, 'place'> {
  const { place: _place, ...settings } = host
  return settings
}

/** Returns what a mirrors entry means, without its place and spelling: equal entries mean the same. */
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

/** Returns the key as in the file, where values carry the units that names carry in the code. */
function asWritten(key: string): string {
  return key.replace(/(?:Ms|Bytes)$/, '')
}
