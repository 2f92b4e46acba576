// The effective configuration in the form of a configuration file, without secrets. The output is
// a valid configuration file, unless the configuration has literal secrets.
import { stringify } from 'yaml'
import type {
  AuthConfig,
  Config,
  FreshnessSettings,
  HostConfig,
  Mirror,
  Timeouts,
} from './config.ts'
import { formatListenAddress } from './listen-address.ts'
import { formatDuration, formatSize } from './units.ts'

/** The configuration as plain values. Maps whose order matters are Maps. */
export type Effective = ReadonlyMap<string, unknown>

/** Returns every setting as in the file; a secret is its source, or `<redacted>` for a literal. */
export function effectiveConfig(config: Config): Effective {
  return omitEmpty({
    listen: formatListenAddress(config.listen),
    tls: config.tls,
    admin: omitEmpty({
      listen: formatListenAddress(config.admin.listen),
      token: config.admin.token?.source,
    }),
    storage: config.storage,
    defaultRegistry: config.defaultRegistry,
    defaultEndpoints: config.defaultEndpoints,
    mirrors: new Map(config.mirrors.map((mirror) => [mirror.registry, effectiveMirror(mirror)])),
    configs: new Map(
      Object.entries(config.configs).map(([host, entry]) => [host, effectiveHost(entry)]),
    ),
    dockerConfig: config.dockerConfig.length === 1 ? config.dockerConfig[0] : config.dockerConfig,
    freshness: effectiveFreshness(config),
    fetch: effectiveFetch(config.fetch),
    timeouts: effectiveTimeouts(config.timeouts),
    dns: omitEmpty({ servers: [...config.dns.servers] }),
    health: { probe: config.health.probeMs ? formatDuration(config.health.probeMs) : 'off' },
    clientStallTimeout: formatDuration(config.clientStallTimeoutMs),
    shutdownDelay: formatDuration(config.shutdownDelayMs),
    shutdownTimeout: formatDuration(config.shutdownTimeoutMs),
    log: config.log,
  })
}

function effectiveFetch({ pieceBytes, partialTtlMs, ...rest }: Config['fetch']): unknown {
  return { piece: formatSize(pieceBytes), ...rest, partialTtl: formatDuration(partialTtlMs) }
}

/** Returns the configuration as YAML. */
export function toYaml(effective: Effective): string {
  return stringify(effective, { lineWidth: 0 })
}

/** Returns the configuration with its Maps turned into objects, for JSON.stringify. */
export function toPlain(value: unknown): unknown {
  if (value instanceof Map) {
    return Object.fromEntries([...value].map(([key, each]) => [key, toPlain(each)]))
  }
  if (Array.isArray(value)) return value.map(toPlain)
  return value
}

function effectiveMirror({ endpoints, rewrites, hosts }: Mirror): Effective {
  return omitEmpty({
    endpoint: endpoints.map(({ written }) => written),
    rewrite: new Map(rewrites.map(({ rewrite }) => [rewrite.pattern, rewrite.replacement])),
    hosts: [...hosts],
  })
}

function effectiveHost(entry: HostConfig): Effective {
  const { auth = [], tls, resolve, proxy, fetch, timeouts } = entry
  const auths = auth.map(effectiveAuth)
  return omitEmpty({
    auth: auths.length > 1 ? auths : auths[0],
    tls: tls && omitEmpty({ ...tls }),
    resolve: resolve && [...resolve],
    proxy: proxy === undefined ? undefined : String(proxy),
    fetch: fetch && effectiveHostFetch(fetch),
    timeouts: timeouts && effectiveTimeouts(timeouts),
  })
}

function effectiveHostFetch({ pieceBytes, ...rest }: NonNullable<HostConfig['fetch']>): Effective {
  return omitEmpty({
    piece: pieceBytes === undefined ? undefined : formatSize(pieceBytes),
    ...rest,
  })
}

function effectiveAuth(auth: AuthConfig): Effective {
  return omitEmpty({
    username: auth.username,
    password: auth.password?.source,
    auth: auth.auth?.source,
    identity_token: auth.identity_token?.source,
    realms: auth.realms && [...auth.realms],
  })
}

function effectiveTimeouts({ connectMs, firstByteMs, stallMs }: Partial<Timeouts>): Effective {
  return omitEmpty({
    connect: optionalDuration(connectMs),
    firstByte: optionalDuration(firstByteMs),
    stall: optionalDuration(stallMs),
  })
}

function optionalDuration(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : formatDuration(ms)
}

function effectiveFreshness({ freshness }: Config): Effective {
  const { rules, ...settings } = freshness
  return new Map<string, unknown>([
    ...effectiveSettings(settings),
    [
      'rules',
      rules.map(({ match, ...rest }) => new Map([['match', match], ...effectiveSettings(rest)])),
    ],
  ])
}

function effectiveSettings(settings: Partial<FreshnessSettings>): [string, string][] {
  const words = {
    ttl: settings.ttlMs,
    staleWhileRevalidate: settings.staleWhileRevalidateMs,
    revalidateTimeout: settings.revalidateTimeoutMs,
    staleIfError: settings.staleIfErrorMs,
    whenGone: settings.whenGone,
    negativeTtl: settings.negativeTtlMs,
  }
  return Object.entries(words).flatMap(([key, value]): [string, string][] => {
    if (value === undefined) return []
    return [[key, typeof value === 'number' ? formatDuration(value) : value]]
  })
}

/** Returns the values without those that are absent or empty. */
function omitEmpty(values: Readonly<Record<string, unknown>>): Effective {
  return new Map(Object.entries(values).filter(([, value]) => !isEmpty(value)))
}

function isEmpty(value: unknown): boolean {
  if (value === undefined) return true
  return (Array.isArray(value) && value.length === 0) || (value instanceof Map && value.size === 0)
}
