// How registries are asked under one configuration: connections, tokens, endpoint health and the
// chain over them. What content is worth (digests, pages) is known in content/.
import { withCdnLoop } from '../../http/cdn-loop.ts'
import { Authorizer } from '../auth/authorizer.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import type { SourceFetchOptions } from '../face/source.ts'
import type { BreakerOptions } from '../health/breaker.ts'
import { EndpointHealth } from '../health/endpoint-health.ts'
import { RateLimits } from '../health/quotas.ts'
import { settingsId } from '../network/settings-id.ts'
import { DEFAULT_LIMITS } from '../network/timeouts.ts'
import type { UpstreamLimits } from '../network/timeouts.ts'
import { Transport } from '../network/transport.ts'
import type { HostOptions, TransportOptions } from '../network/transport.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { configForHost } from '../routing/host-config.ts'
import { createChain } from './chain.ts'
import type { Chain } from './chain.ts'
import { exchange } from './exchange.ts'

export interface ClientOptions extends TransportOptions {
  /** Chandlery's version, for User-Agent. */
  readonly version: string
  /**
   * This process's name in CDN-Loop (RFC 8586), by which a request that comes back is recognised.
   */
  readonly instanceId: string
  /** The `configs`, by host[:port]. */
  readonly hosts?: Readonly<Record<string, HostOptions>>
  readonly observer?: UpstreamObserver | undefined
  readonly limits?: Partial<UpstreamLimits>
  /**
   * Where what registries say about their limits is kept. Default: the former client's, or a new
   * one.
   */
  readonly rateLimits?: RateLimits
  readonly breaker?: Partial<BreakerOptions>
  readonly now?: () => number
  /** The client that this one replaces: they share connections, tokens and limits. */
  readonly former?: RegistryClient | undefined
  /**
   * Whether the former client's knowledge of an endpoint's health still holds. Default: it does.
   */
  readonly keepsHealth?: (endpoint: Pick<Endpoint, 'key' | 'host'>) => boolean
}

export class RegistryClient {
  readonly health: EndpointHealth
  readonly chain: Chain
  readonly #hosts: Readonly<Record<string, HostOptions>>
  readonly #transport: Transport
  readonly #authorizer: Authorizer
  readonly #resolver: ClientOptions['resolver']

  constructor(options: ClientOptions) {
    const { observer, former, instanceId, breaker, now = Date.now, hosts = {} } = options
    const limits = { ...DEFAULT_LIMITS, ...options.limits }
    this.#resolver = options.resolver
    this.#hosts = hosts
    const transport = new Transport(hosts, limits, options, former && former.#transport)
    this.#transport = transport
    const { rateLimits = former?.health.rateLimits ?? new RateLimits(now) } = options
    const health = new EndpointHealth({ rateLimits, observer, now, ...(breaker && { breaker }) })
    if (former !== undefined) health.inherit(former.health, options.keepsHealth ?? (() => true))
    this.health = health
    const headers = {
      'user-agent': `chandlery/${options.version}`,
      'cdn-loop': withCdnLoop(undefined, instanceId),
      'accept-encoding': 'identity',
    }
    const authorizer = new Authorizer(
      { transport, headers, observer, now },
      former && former.#authorizer,
    )
    this.#authorizer = authorizer
    const limitsFor = ({ host }: Endpoint) => transport.limitsFor({ host })
    this.chain = createChain(
      { health, authorizer, limitsFor, observer, now },
      exchange({ transport, headers, instanceId }),
    )
  }

  /** Returns how blobs are fetched from this endpoint, if the configuration says so. */
  fetchOptions({ host }: Endpoint): SourceFetchOptions | undefined {
    return configForHost(this.#hosts, host)?.fetch
  }

  /** Returns an id of how this endpoint is connected to and asked, equal for equal settings. */
  settingsOf({ host }: Endpoint): string {
    const limits = this.#transport.limitsFor({ host })
    return settingsId([configForHost(this.#hosts, host), limits, this.#resolver?.id])
  }

  /**
   * Finds out whether an endpoint that the operator named answers, and records it. Never rejects.
   */
  async probe(endpoint: Endpoint): Promise<void> {
    await this.chain.prober.probe({ endpoint, publicOnly: false })
  }

  /**
   * Closes, as soon as nothing runs on them, the former client's connections that this one would
   * make differently, and reads files again. To be called once it has replaced its former.
   */
  async settle(): Promise<void> {
    await this.#transport.settle()
  }

  /** Breaks off what is running, also that of former clients. */
  async close(): Promise<void> {
    await this.#transport.close()
  }
}
