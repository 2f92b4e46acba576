// A generation is everything that is made from one configuration: where requests lead and how upstreams
// are asked. A reload makes the next one; a request ends under the generation in which it began.
import { FreshnessPolicy } from '../cache/policy/freshness.ts'
import type { Requester } from '../upstream/face/requester.ts'
import { settingsOfHost, settingsOfMirror } from '../config/changes.ts'
import type { Config, HostConfig } from '../config/config.ts'
import { RegistryClient } from '../upstream/client/client.ts'
import { ConfiguredCredentials } from '../upstream/credentials/configured.ts'
import type { Endpoint } from '../upstream/routing/endpoint.ts'
import { configForHost } from '../upstream/routing/host-config.ts'
import { wholesFor } from '../upstream/network/host-timeouts.ts'
import { DEFAULT_LIMITS, type UpstreamLimits } from '../upstream/network/timeouts.ts'
import type { UpstreamObserver } from '../upstream/face/observer.ts'
import type { ProxyEnvironment } from '../upstream/network/proxy/egress-proxy.ts'
import { Registries } from '../upstream/routing/registries.ts'
import { Resolver } from '../upstream/address/resolver.ts'
import { settingsId } from '../upstream/network/settings-id.ts'
import { Upstream } from '../upstream/upstream.ts'

export interface GenerationOptions {
  readonly version: string
  readonly instanceId: string
  readonly observer: UpstreamObserver
  /** Limits for upstreams that differ from the defaults. */
  readonly limits?: Partial<UpstreamLimits> | undefined
  /** The proxies for hosts that have none of their own. */
  readonly proxies?: ProxyEnvironment | undefined
}

export interface Generation {
  readonly config: Config
  readonly freshness: FreshnessPolicy
  readonly registries: Registries
  readonly client: RegistryClient
  readonly upstream: Upstream
  readonly credentials: ConfiguredCredentials
  readonly resolver: Resolver
  /** On whose behalf upstreams are asked for the requests of this generation. */
  readonly requester: Requester
}

/** Throws if an option cannot be used, such as a bad endpoint. */
export function firstGeneration(config: Config, options: GenerationOptions): Generation {
  return generationOf(config, options, undefined)
}

/**
 * Returns the generation that follows. If routing and the ways to ask upstreams are the same, all but
 * the settings of the caches stays. Otherwise connections, tokens, limits and the health of endpoints
 * are taken over where they still apply. Throws if an option cannot be used.
 */
export function nextGeneration(
  config: Config,
  options: GenerationOptions,
  former: Generation,
): Generation {
  if (routingKey(config) === routingKey(former.config)) {
    return { ...former, config, freshness: new FreshnessPolicy(config.freshness) }
  }
  return generationOf(config, options, former)
}

/** Returns the endpoints of the listed registries. With "*" there may be others. */
export function listedEndpoints({ registries }: Pick<Generation, 'registries'>): Endpoint[] {
  const endpoints = registries.names.flatMap((name) => registries.endpoints(name))
  return [...new Map(endpoints.map((endpoint) => [endpoint.key, endpoint])).values()]
}

function generationOf(
  config: Config,
  options: GenerationOptions,
  former: Generation | undefined,
): Generation {
  const registries = new Registries(config)
  const resolver = resolverOf(config, former)
  const client = createClient(config, options, { registries, resolver, former })
  for (const endpoint of listedEndpoints({ registries })) client.health.know(endpoint)
  const upstream = new Upstream({ registries, client, former: former?.upstream })
  const credentials = credentialsOf(config, client, former)
  const number = (former?.requester.epoch?.number ?? 0) + 1
  const requester = { credentials, epoch: { number, upstream } }
  const freshness = new FreshnessPolicy(config.freshness)
  return { config, freshness, registries, client, upstream, credentials, resolver, requester }
}

/** Keeps the former resolver, and the addresses it remembers, if its settings are the same. */
function resolverOf({ dns }: Config, former: Generation | undefined): Resolver {
  const isSame = former !== undefined && settingsId(former.config.dns) === settingsId(dns)
  return isSame ? former.resolver : new Resolver(dns)
}

/** Keeps the former credentials if they are the same: a running download then sees the same sources. */
function credentialsOf(
  config: Config,
  client: RegistryClient,
  former: Generation | undefined,
): ConfiguredCredentials {
  if (former && authOf(former.config) === authOf(config)) return former.credentials
  return new ConfiguredCredentials({
    hosts: config.configs,
    dockerConfigPaths: config.dockerConfig,
    rateLimits: client.health.rateLimits,
  })
}

interface ClientParts {
  readonly registries: Registries
  readonly resolver: Resolver
  readonly former: Generation | undefined
}

function createClient(
  config: Config,
  { version, instanceId, observer, limits, proxies }: GenerationOptions,
  { registries, resolver, former }: ClientParts,
): RegistryClient {
  const { connectMs, firstByteMs, stallMs } = config.timeouts
  const configured = {
    ...DEFAULT_LIMITS,
    connectTimeoutMs: connectMs,
    headersTimeoutMs: firstByteMs,
    bodyStallMs: stallMs,
  }
  return new RegistryClient({
    version,
    instanceId,
    hosts: hostSettings(config.configs),
    limits: { ...configured, ...wholesFor(configured), ...limits },
    observer,
    resolver,
    proxies,
    former: former?.client,
    ...(former && { keepsHealth: healthKept(config, registries, former) }),
  })
}

/** The health of an endpoint is forgotten if the endpoint is listed no more or is asked in another way. */
function healthKept(config: Config, registries: Registries, former: Generation) {
  const keysOf = (of: Pick<Generation, 'registries'>) =>
    new Set(listedEndpoints(of).map(({ key }) => key))
  const [before, now] = [keysOf(former), keysOf({ registries })]
  return ({ key, host }: Pick<Endpoint, 'key' | 'host'>) => {
    const isGone = before.has(key) && !now.has(key)
    return !isGone && hostKey(former.config, host) === hostKey(config, host)
  }
}

/** Equal if one host is asked in the same way. */
function hostKey({ configs, dockerConfig, timeouts, dns }: Config, host: string): string {
  const own = configForHost(configs, host)
  return settingsId([own && settingsOfHost(own), dockerConfig, timeouts, dns])
}

/** Equal if requests lead to the same places and upstreams are asked in the same way. */
function routingKey(config: Config): string {
  const { defaultRegistry, defaultEndpoints, mirrors, timeouts, dns } = config
  const routing = [defaultRegistry, defaultEndpoints, mirrors.map(settingsOfMirror)]
  return settingsId([routing, hosts(config.configs), timeouts, dns, authOf(config)])
}

function authOf({ configs, dockerConfig }: Config): string {
  const auths = Object.entries(configs).map(([host, { auth }]) => [host, auth])
  return settingsId([auths, dockerConfig])
}

function hosts(configs: Config['configs']): Record<string, Omit<HostConfig, 'place'>> {
  const entries = Object.entries(configs)
  return Object.fromEntries(entries.map(([host, each]) => [host, settingsOfHost(each)]))
}

/** Leaves the credentials out: connections do not depend on them. */
function hostSettings(
  configs: Config['configs'],
): Record<string, Omit<HostConfig, 'place' | 'auth'>> {
  const entries = Object.entries(hosts(configs))
  return Object.fromEntries(
    entries.map(([host, settings]) => {
      const { auth: _auth, ...others } = settings
      return [host, others]
    }),
  )
}
