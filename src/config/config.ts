// The effective configuration: typed, complete, with durations in milliseconds and with places in
// files. Only app/ and cli/ know it; every other room declares the options it needs and app/ fills
// them in.
import { normaliseRegistry } from '../oci/reference.ts'
import { BUILT_IN_MIRRORS } from './built-in-mirrors.ts'
import type { Proxy } from '../upstream/network/proxy/egress-proxy.ts'
import { type EndpointAddress, normaliseEndpoint } from '../upstream/routing/endpoint.ts'
import type { Rewrite } from '../upstream/routing/rewrite.ts'
import type { ListenAddress } from './listen-address.ts'
import type { KeyPath, Place } from './problem.ts'
import { type FileContent, fileSchema, type LOG_LEVELS } from './schema.ts'
import type { Secret } from './secret.ts'
import type { YamlSource } from './yaml-source.ts'

export type LogLevel = (typeof LOG_LEVELS)[number]

/** An endpoint, and its spelling in the file. */
export interface ConfiguredEndpoint extends EndpointAddress {
  readonly written: string
}

/** A rewrite rule, and its place in a file. */
export interface ConfiguredRewrite {
  readonly rewrite: Rewrite
  readonly place?: Place
}

/** A registry that is served; "*" stands for every registry without an entry. */
export interface Mirror {
  readonly registry: string
  readonly endpoints: readonly ConfiguredEndpoint[]
  /** The rules, in the order in which they are tried. */
  readonly rewrites: readonly ConfiguredRewrite[]
  readonly hosts: readonly string[]
  /** Absent for the built-in list. */
  readonly place?: Place
}

/** The `auth` section of a configs entry, with the key names of registries.yaml. */
export interface AuthConfig {
  readonly username?: string | undefined
  readonly password?: Secret | undefined
  readonly auth?: Secret | undefined
  readonly identity_token?: Secret | undefined
  readonly realms?: readonly string[] | undefined
}

/** The `tls` section of a configs entry, with the key names of registries.yaml. */
export interface ClientTlsConfig {
  readonly ca_file?: string | undefined
  readonly cert_file?: string | undefined
  readonly key_file?: string | undefined
  readonly insecure_skip_verify?: boolean | undefined
}

/** The settings of one upstream host. */
export interface HostConfig {
  /** The credentials; if there are several, the one with the most requests left is used. */
  readonly auth?: readonly AuthConfig[]
  readonly tls?: ClientTlsConfig
  /** Addresses to connect to instead of asking DNS. */
  readonly resolve?: readonly string[]
  /** The proxy towards this host. Without it, the proxy of the environment is used. */
  readonly proxy?: Proxy | 'direct'
  /** How blobs are fetched from this host. Absent values are those of Config.fetch. */
  readonly fetch?: Partial<Pick<Fetch, 'pieceBytes' | 'connections' | 'maxConnections'>>
  /** The time limits of this host. Absent values are those of Config.timeouts. */
  readonly timeouts?: Partial<Timeouts>
  readonly place?: Place
}

/** The time limits of upstreams, in milliseconds. */
export interface Timeouts {
  readonly connectMs: number
  readonly firstByteMs: number
  readonly stallMs: number
}

/** The freshness settings, which freshness.rules can change for the tags they match. */
export interface FreshnessSettings {
  readonly ttlMs: number
  readonly staleWhileRevalidateMs: number
  readonly revalidateTimeoutMs: number
  readonly staleIfErrorMs: number | 'forever'
  readonly whenGone: 'serve' | 'refuse'
  readonly negativeTtlMs: number
}

export interface FreshnessRule extends Partial<FreshnessSettings> {
  readonly match: string
}

export interface Freshness extends FreshnessSettings {
  /** The first rule whose `match` matches a tag applies to it. */
  readonly rules: readonly FreshnessRule[]
}

/** How blobs are fetched; `pieceBytes` in bytes. */
export interface Fetch {
  readonly pieceBytes: number
  readonly connections: number
  readonly maxConnections: number
  readonly fill: 'onFullRead' | 'always'
  readonly partialTtlMs: number
}

export interface Config {
  readonly listen: ListenAddress
  readonly tls?: { readonly certFile: string; readonly keyFile: string }
  readonly admin: {
    readonly listen: ListenAddress
    /** Allows clients on other machines to change state. */
    readonly token?: Secret | undefined
  }
  readonly storage: { readonly driver: 'filesystem'; readonly directory: string }
  readonly defaultRegistry: string
  readonly defaultEndpoints: boolean
  readonly mirrors: readonly Mirror[]
  /** The settings of hosts, by host[:port] in lower case, or "*". */
  readonly configs: Readonly<Record<string, HostConfig>>
  /** Paths of docker config.json files; the first with a credential for a host wins. */
  readonly dockerConfig: readonly string[]
  readonly freshness: Freshness
  readonly fetch: Fetch
  readonly timeouts: Timeouts
  readonly dns: { readonly servers: readonly string[] }
  /** Without `probeMs`, endpoints are not probed in the background. */
  readonly health: { readonly probeMs?: number }
  readonly clientStallTimeoutMs: number
  readonly shutdownDelayMs: number
  readonly shutdownTimeoutMs: number
  readonly log: { readonly level: LogLevel }
}

/** The mirrors and configs of one file. */
export interface RegistrySettings {
  readonly mirrors: readonly Mirror[]
  readonly configs: ReadonlyMap<string, HostConfig>
}

const DEFAULTS = fileSchema.parse({})

/** Returns everything but mirrors and configs, with the defaults filled in. */
export function settingsOf(content: FileContent): Omit<Config, 'mirrors' | 'configs'> {
  const { tls } = content
  return {
    listen: content.listen,
    ...(tls && { tls }),
    admin: content.admin ?? DEFAULTS.admin!,
    storage: content.storage ?? DEFAULTS.storage!,
    defaultRegistry: content.defaultRegistry,
    defaultEndpoints: content.defaultEndpoints,
    dockerConfig: content.dockerConfig ?? [],
    freshness: freshnessOf(content.freshness ?? DEFAULTS.freshness!),
    fetch: fetchOf(content.fetch ?? DEFAULTS.fetch!),
    ...upstreamSettingsOf(content),
    clientStallTimeoutMs: content.clientStallTimeout,
    shutdownDelayMs: content.shutdownDelay,
    shutdownTimeoutMs: content.shutdownTimeout,
    log: content.log ?? DEFAULTS.log!,
  }
}

function upstreamSettingsOf(content: FileContent): Pick<Config, 'timeouts' | 'dns' | 'health'> {
  const { connect, firstByte, stall } = content.timeouts ?? DEFAULTS.timeouts!
  const { probe = 'off' } = content.health ?? {}
  return {
    timeouts: { connectMs: connect, firstByteMs: firstByte, stallMs: stall },
    dns: { servers: content.dns?.servers ?? [] },
    health: probe === 'off' ? {} : { probeMs: probe },
  }
}

type FreshnessContent = NonNullable<FileContent['freshness']>
type RuleContent = NonNullable<FreshnessContent['rules']>[number]

function fetchOf(content: NonNullable<FileContent['fetch']>): Fetch {
  const { piece: pieceBytes, partialTtl: partialTtlMs, ...rest } = content
  return { pieceBytes, partialTtlMs, ...rest }
}

function freshnessOf(content: FreshnessContent): Freshness {
  return {
    ttlMs: content.ttl,
    staleWhileRevalidateMs: content.staleWhileRevalidate,
    revalidateTimeoutMs: content.revalidateTimeout,
    staleIfErrorMs: content.staleIfError,
    whenGone: content.whenGone,
    negativeTtlMs: content.negativeTtl,
    rules: (content.rules ?? []).map(ruleOf),
  }
}

function ruleOf(content: RuleContent): FreshnessRule {
  const { match, ttl, staleWhileRevalidate, revalidateTimeout, staleIfError } = content
  const { whenGone, negativeTtl } = content
  return {
    match,
    ...(ttl !== undefined && { ttlMs: ttl }),
    ...(staleWhileRevalidate !== undefined && { staleWhileRevalidateMs: staleWhileRevalidate }),
    ...(revalidateTimeout !== undefined && { revalidateTimeoutMs: revalidateTimeout }),
    ...(staleIfError !== undefined && { staleIfErrorMs: staleIfError }),
    ...(whenGone !== undefined && { whenGone }),
    ...(negativeTtl !== undefined && { negativeTtlMs: negativeTtl }),
  }
}

/** Returns the mirrors and configs of Chandlery's own file, with rewrite rules in file order. */
export function registrySettingsOf(content: FileContent, source: YamlSource): RegistrySettings {
  const mirrors = source.keys(['mirrors']).map((key) => mirrorOf(key, content, source))
  const configs = source.keys(['configs']).map((key): [string, HostConfig] => {
    const host = key.toLowerCase()
    return [host, hostConfigOf(content.configs?.[host] ?? {}, source.keyPlace(['configs', key]))]
  })
  return { mirrors, configs: new Map(configs) }
}

function mirrorOf(key: string, content: FileContent, source: YamlSource): Mirror {
  const registry = normaliseRegistry(key)
  const { endpoint, rewrite, hosts } = content.mirrors?.[registry] ?? {}
  const rulePath = ['mirrors', key, 'rewrite']
  return {
    registry,
    endpoints: endpoint ?? [],
    rewrites: Array.isArray(rewrite)
      ? rewrite.flatMap((rules, index) => rulesOf(rules, [...rulePath, index], source))
      : rulesOf(rewrite ?? {}, rulePath, source),
    hosts: hosts ?? [],
    place: source.keyPlace(['mirrors', key]),
  }
}

/** Returns the rules of one map, in file order. */
function rulesOf(
  rules: Readonly<Record<string, Rewrite>>,
  path: KeyPath,
  source: YamlSource,
): ConfiguredRewrite[] {
  return source.keys(path).flatMap((pattern) => {
    const rewrite = rules[pattern]
    return rewrite ? [{ rewrite, place: source.keyPlace([...path, pattern]) }] : []
  })
}

type HostContent = NonNullable<NonNullable<FileContent['configs']>[string]>

function hostConfigOf(content: HostContent, place: Place): HostConfig {
  const { auth, tls, resolve, proxy, fetch, timeouts } = content
  return {
    ...(auth && { auth: Array.isArray(auth) ? auth : [auth] }),
    ...(tls && { tls }),
    ...(resolve && { resolve }),
    ...(proxy !== undefined && { proxy }),
    ...(fetch && { fetch: hostFetchOf(fetch) }),
    ...(timeouts && { timeouts: hostTimeoutsOf(timeouts) }),
    place,
  }
}

function hostFetchOf(content: NonNullable<HostContent['fetch']>): NonNullable<HostConfig['fetch']> {
  const { piece, connections, maxConnections } = content
  return {
    ...(piece !== undefined && { pieceBytes: piece }),
    ...(connections !== undefined && { connections }),
    ...(maxConnections !== undefined && { maxConnections }),
  }
}

function hostTimeoutsOf(content: NonNullable<HostContent['timeouts']>): Partial<Timeouts> {
  const { connect, firstByte, stall } = content
  return {
    ...(connect !== undefined && { connectMs: connect }),
    ...(firstByte !== undefined && { firstByteMs: firstByte }),
    ...(stall !== undefined && { stallMs: stall }),
  }
}

/**
 * Merges the entries of both files: Chandlery's own file wins over the K3s file. If neither lists a
 * mirror, the built-in ones are used.
 */
export function mergeRegistries(
  ours: RegistrySettings,
  k3s: RegistrySettings,
): Pick<Config, 'mirrors' | 'configs'> {
  const mirrors = new Map([...k3s.mirrors, ...ours.mirrors].map((each) => [each.registry, each]))
  return {
    mirrors: mirrors.size > 0 ? [...mirrors.values()] : builtInMirrors(),
    configs: Object.fromEntries([...k3s.configs, ...ours.configs]),
  }
}

/** Returns the built-in mirrors. */
export function builtInMirrors(): Mirror[] {
  return BUILT_IN_MIRRORS.map(([registry, ...endpoints]) => ({
    registry,
    endpoints: endpoints.map((written) => ({ ...normaliseEndpoint(written), written })),
    rewrites: [],
    hosts: [],
  }))
}
