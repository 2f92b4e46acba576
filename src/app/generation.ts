// What is made of one configuration: where requests lead and how upstreams are asked. One follows
// another when the configuration changes; what a request began under one, it ends under that one.
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
  /** Of what upstreams may take, other than the default. */
  readonly limits?: Partial<UpstreamLimits> | undefined
  /** For hosts that have none of their own. */
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
  /** On whose behalf the requests are that come in while it is in force. */
  readonly requester: Requester
}

/** Throws where an option cannot be used: a bad endpoint. */
export function firstGeneration(config: Config, options: GenerationOptions): Generation {
  return generationOf(config, options, undefined)
}

/**
 * The one that follows. Where nothing leads elsewhere and nothing is asked otherwise, all but the
 * configuration stays; else connections, tokens, limits and what is known of endpoints go on as far
 * as they fit. Throws where an option cannot be used.
 */
export function nextGeneration(
  config: Config,
  options: GenerationOptions,
  former: Generation,
): Generation {
  if (waysOf(config) === waysOf(former.config)) {
    return { ...former, config, freshness: new FreshnessPolicy(config.freshness) }
  }
  return generationOf(config, options, former)
}

/** Of the registries that are listed; with "*" there may be others. */
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
  const { observer } = options
  const upstream = new Upstream({ registries, client, observer, former: former?.upstream })
  const credentials = credentialsOf(config, client, former)
  const number = (former?.requester.epoch?.number ?? 0) + 1
  const requester = { credentials, epoch: { number, upstream } }
  const freshness = new FreshnessPolicy(config.freshness)
  return { config, freshness, registries, client, upstream, credentials, resolver, requester }
}

/** The same one knows the same names. */
function resolverOf({ dns }: Config, former: Generation | undefined): Resolver {
  const isSame = former !== undefined && settingsId(former.config.dns) === settingsId(dns)
  return isSame ? former.resolver : new Resolver(dns)
}

/** The same ones know whose turn it is, and are the same source to a download that runs. */
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
    hosts: lines(config.configs),
    limits: { ...configured, ...wholesFor(configured), ...limits },
    observer,
    resolver,
    proxies,
    former: former?.client,
    ...(former && { keepsHealth: healthKept(config, registries, former) }),
  })
}

/** How an endpoint fared says nothing once it is asked otherwise, and one that is listed no more is of no interest. */
function healthKept(config: Config, registries: Registries, former: Generation) {
  const keysOf = (of: Pick<Generation, 'registries'>) =>
    new Set(listedEndpoints(of).map(({ key }) => key))
  const [before, now] = [keysOf(former), keysOf({ registries })]
  return ({ key, host }: Pick<Endpoint, 'key' | 'host'>) => {
    const isGone = before.has(key) && !now.has(key)
    return !isGone && lineOf(former.config, host) === lineOf(config, host)
  }
}

/** Of all that decides how one host is asked. */
function lineOf({ configs, dockerConfig, timeouts, dns }: Config, host: string): string {
  const own = configForHost(configs, host)
  return settingsId([own && settingsOfHost(own), dockerConfig, timeouts, dns])
}

/** Of all that decides where requests lead, and how upstreams are asked. */
function waysOf(config: Config): string {
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

/** Without the credentials: those are not the connections' business. */
function lines(configs: Config['configs']): Record<string, Omit<HostConfig, 'place' | 'auth'>> {
  const entries = Object.entries(hosts(configs))
  return Object.fromEntries(
    entries.map(([host, settings]) => {
      const { auth: _auth, ...line } = settings
      return [host, line]
    }),
  )
}
