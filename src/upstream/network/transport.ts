// Connections: one bounded pool per origin, TLS state, reach and lane. Sends single requests.
// Redirects, authorization and the meaning of answers belong to the chain in client/.
import type { Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import { buildConnector, Pool } from 'undici'

import { addressClass } from '../address/addresses.ts'
import type { Reach } from '../address/addresses.ts'
import { Connections } from './pools.ts'
import { Exchange } from './body-stream.ts'
import type { ExchangeOptions, Head } from './body-stream.ts'
import { configForHost, exactConfig } from '../routing/host-config.ts'
import { HostLimits } from './host-timeouts.ts'
import type { HostTimeouts } from './host-timeouts.ts'
import { attemptTimeoutMs } from './timeouts.ts'
import type { UpstreamLimits } from './timeouts.ts'
import { proxyAuthorization, proxyAuthRequired } from './proxy/http-connect.ts'
import { checkLiteral, checkProxied, guardedLookup } from '../address/lookup.ts'
import { throughProxy, toProxy } from './proxy/connector.ts'
import { chooseProxy } from './proxy/choice.ts'
import { NO_PROXIES } from './proxy/egress-proxy.ts'
import type { Proxy, ProxyEnvironment } from './proxy/egress-proxy.ts'
import { Resolver } from '../address/resolver.ts'
import type { SourceFetchOptions } from '../face/source.ts'
import { IDENTITY } from './settings-id.ts'
import { isStaleConnection } from './stale-connection.ts'
import type { TlsFiles, TlsOptions, TlsState } from './tls.ts'

/** What the transport needs of a `configs` entry. */
export interface HostOptions {
  readonly tls?: TlsOptions | undefined
  /** IP addresses to use instead of DNS. */
  readonly resolve?: readonly string[] | undefined
  /** Used instead of the environment's. `direct`: no proxy. */
  readonly proxy?: Proxy | 'direct' | undefined
  /** How blobs are fetched from there. */
  readonly fetch?: SourceFetchOptions | undefined
  /** Time limits that differ from those for all hosts. */
  readonly timeouts?: HostTimeouts | undefined
}

export interface TransportOptions {
  readonly resolver?: Resolver | undefined
  /** For hosts without a proxy of their own. */
  readonly proxies?: ProxyEnvironment | undefined
}

export interface OutgoingRequest {
  readonly url: URL
  /** The host's key in `configs`. An endpoint may be written with a port that its URL leaves out. */
  readonly host: string
  /**
   * The endpoint that led there. Its proxy and time limits apply if `host` has none of its own.
   */
  readonly via?: string | undefined
  readonly method: 'GET' | 'HEAD' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | undefined
  /** Which addresses the name may resolve to. */
  readonly reach: Reach
  /** Content and metadata have separate connections. */
  readonly lane: 'content' | 'metadata'
}

export interface Answer extends Head {
  readonly body: Exchange
}

const KEEP_ALIVE_MS = 15_000
/** The least that undici accepts, for connections that must not be kept. */
const NO_KEEP_ALIVE_MS = 1
const PLAIN: HostOptions = {}

export class Transport {
  readonly #hosts: Readonly<Record<string, HostOptions>>
  readonly #limits: HostLimits
  readonly #resolver: Resolver
  readonly #proxies: ProxyEnvironment
  readonly #tls = new Map<TlsOptions | undefined, TlsFiles>()
  readonly #connections: Connections<ConnectionKey>

  constructor(
    hosts: Readonly<Record<string, HostOptions>>,
    limits: UpstreamLimits,
    { resolver = new Resolver(), proxies = NO_PROXIES }: TransportOptions = {},
    former?: Transport,
  ) {
    this.#hosts = hosts
    this.#limits = new HostLimits(hosts, limits)
    this.#resolver = resolver
    this.#proxies = proxies
    this.#connections = former === undefined ? new Connections() : former.#connections
  }

  /** Rejects with AddressRefused, TlsFileError, the network's own error, or the signal's reason. */
  async send(request: OutgoingRequest, options: ExchangeOptions): Promise<Answer> {
    try {
      return await this.#sendOnce(request, options)
    } catch (error) {
      // The other side may close a kept connection just when it is used. Then send once more.
      const isRepeatable = isIdempotent(request) && options.signal?.aborted !== true
      if (!isRepeatable || !isStaleConnection(error)) throw error
      return await this.#sendOnce(request, options)
    }
  }

  /** Returns how long and how much a host may take. */
  limitsFor({ host, via }: Pick<OutgoingRequest, 'host' | 'via'>): UpstreamLimits {
    return this.#limits.of(host, via)
  }

  /**
   * Returns which addresses an origin may lead us to: those of its own network, as the last connection
   * to it found it. An origin that must have a public address (`own`) leads to public ones only.
   */
  reachFrom(origin: string, own: Reach): Reach {
    return own === 'public' ? 'public' : (this.#connections.networks.get(origin) ?? 'public')
  }

  /**
   * Closes the former's connections that this transport would make differently, once nothing runs on
   * them. To be called after it has replaced its former.
   */
  async settle(): Promise<void> {
    const connections = this.#connections
    connections.recheck([undefined, ...Object.values(this.#hosts).map(({ tls }) => tls)])
    await connections.closeOthers(async (key) => {
      const profile = await this.#profileFor(key).catch(() => undefined)
      return profile?.poolKey
    })
  }

  /** Breaks off the requests that are running. */
  async close(): Promise<void> {
    await this.#connections.close()
  }

  async #sendOnce(request: OutgoingRequest, options: ExchangeOptions): Promise<Answer> {
    const isKept = isIdempotent(request)
    const key: ConnectionKey = isKept ? request : { ...request, lane: 'unkept' }
    const profile = await this.#profileFor(key)
    const { forwarder } = profile
    const exchange = new Exchange(options)
    // undici frees a connection one turn after the end of its answer. Without this turn the next
    // request (HEAD, then GET) would open another connection.
    await setImmediate()
    exchange.throwIfAborted()
    if (options.signal?.aborted !== true) {
      const { method, body } = request
      const { headersTimeoutMs, bodyStallMs } = this.limitsFor(request)
      // Looked up only now: during an await somebody might close it.
      this.#poolFor(profile, key).dispatch(
        {
          ...(forwarder ? forwarded(request, forwarder) : plain(request)),
          method,
          ...(body !== undefined && { body }),
          headersTimeout: headersTimeoutMs,
          bodyTimeout: bodyStallMs,
          // By default undici closes the connection after a HEAD, so that each freshness check would
          // cost a handshake.
          reset: !isKept,
        },
        exchange,
      )
    }
    const head = await exchange.head
    if (forwarder === undefined || head.status !== 407) return { ...head, body: exchange }
    exchange.discard()
    throw proxyAuthRequired(forwarder)
  }

  async #profileFor(key: ConnectionKey): Promise<ConnectionProfile> {
    const { url, host, reach: asked } = key
    const own = exactConfig(this.#hosts, host)
    const { proxy } = chooseProxy(this.#hosts, this.#proxies, key)
    // The operator gave the addresses of this very host, so any network is allowed.
    const reach = own?.resolve === undefined ? asked : 'any'
    checkLiteral(url.hostname, reach)
    if (proxy !== undefined) checkProxied(url.hostname, reach)
    const config = configForHost(this.#hosts, host) ?? PLAIN
    const tls = url.protocol === 'https:' ? await this.#tlsFor(config.tls).current() : undefined
    const proxyTls = proxy?.scheme === 'https' ? await this.#proxyTls(proxy) : undefined
    const forwarder = isForwarding(url, proxy, config) ? proxy : undefined
    const limits = this.limitsFor(key)
    const profile = { origin: url.origin, reach, config, limits, tls, proxy, proxyTls, forwarder }
    return { ...profile, poolKey: this.#poolKeyOf(profile, key) }
  }

  /** Returns a key of everything that goes into a connection: equal keys may share a pool. */
  #poolKeyOf(profile: Omit<ConnectionProfile, 'poolKey'>, { host, lane }: ConnectionKey): string {
    const { connectTimeoutMs, headerBytes, connections } = profile.limits
    return JSON.stringify([
      [profile.origin, host, profile.reach, lane],
      [profile.tls?.id, profile.proxyTls?.id, profile.proxy?.[IDENTITY]()],
      [profile.config.resolve, this.#resolver.id],
      [connectTimeoutMs, headerBytes, connections],
    ])
  }

  #poolFor(profile: ConnectionProfile, { url, host, via, reach, lane }: ConnectionKey): Pool {
    return this.#connections.pool(profile.poolKey, () => {
      const { connections, headerBytes } = profile.limits
      const pool = new Pool(profile.forwarder?.origin ?? profile.origin, {
        connect: this.#connector(profile),
        connections,
        maxHeaderSize: headerBytes,
        // A request that is aborted while it connects leaves an unused connection behind.
        keepAliveTimeout: lane === 'unkept' ? NO_KEEP_ALIVE_MS : KEEP_ALIVE_MS,
        allowH2: false,
      })
      // Without the path, which may hold a signature: the key is kept.
      return { pool, key: { url: new URL(url.origin), host, via, reach, lane } }
    })
  }

  #proxyTls({ host }: Proxy): Promise<TlsState> {
    return this.#tlsFor(configForHost(this.#hosts, host)?.tls).current()
  }

  #tlsFor(options: TlsOptions | undefined): TlsFiles {
    const files = this.#tls.get(options) ?? this.#connections.tlsFor(options)
    this.#tls.set(options, files)
    return files
  }

  #connector(profile: ConnectionProfile): buildConnector.connector {
    const { origin, reach, config, tls, proxy, forwarder } = profile
    const timeoutMs = profile.limits.connectTimeoutMs
    const direct = buildConnector({
      // With HTTP/2, four requests would share one connection and its packet losses.
      allowH2: false,
      timeout: timeoutMs,
      lookup: guardedLookup(reach, config.resolve, this.#resolver),
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: attemptTimeoutMs(timeoutMs),
      ...(tls && { secureContext: tls.context, rejectUnauthorized: tls.verify }),
    })
    if (proxy === undefined) return this.#remembering(origin, direct)
    const [address] = config.resolve ?? []
    const network = addressClass(address ?? new URL(origin).hostname)
    if (network !== undefined) this.#connections.networks.set(origin, network)
    const lookup = guardedLookup('any', undefined, this.#resolver)
    const options = { proxy, lookup, timeoutMs, address, tls: profile.proxyTls }
    return forwarder === undefined ? throughProxy(options, direct) : toProxy(options)
  }

  #remembering(origin: string, connect: buildConnector.connector): buildConnector.connector {
    return (options, callback) => {
      connect(options, (...[error, socket]) => {
        this.#avoidLate(socket)
        const network = addressClass(socket?.remoteAddress ?? '')
        if (network !== undefined) this.#connections.networks.set(origin, network)
        if (error === null) callback(null, socket)
        else callback(error, null)
      })
    }
  }

  /** Addresses that were tried in vain before the one that answered come last for a while. */
  #avoidLate(socket: Socket | null): void {
    const tried = socket?.autoSelectFamilyAttemptedAddresses ?? []
    for (const each of tried.slice(0, -1)) this.#resolver.avoid(each.replace(/:\d+$/, ''))
  }
}

/** What decides how a request connects. */
interface ConnectionKey extends Pick<OutgoingRequest, 'url' | 'host' | 'via' | 'reach'> {
  /** `unkept`: each request has a connection of its own. */
  readonly lane: OutgoingRequest['lane'] | 'unkept'
}

/** How connections of one pool are made. */
interface ConnectionProfile {
  readonly poolKey: string
  readonly origin: string
  readonly reach: Reach
  readonly config: HostOptions
  readonly limits: UpstreamLimits
  readonly tls: TlsState | undefined
  readonly proxy: Proxy | undefined
  /** For the connection to the proxy. */
  readonly proxyTls: TlsState | undefined
  /** The proxy, if it forwards requests without a tunnel. */
  readonly forwarder: Proxy | undefined
}

/**
 * Reports whether a request may be sent again without harm, and so whether it may go out on a kept
 * connection, which the other side may be closing. A POST takes a connection of its own: it may
 * spend a refresh token that is good for one use.
 */
function isIdempotent({ method }: OutgoingRequest): boolean {
  return method !== 'POST'
}

/**
 * Plain HTTP is forwarded, because proxies seldom allow CONNECT to other ports than 443. With
 * configured addresses it is tunnelled: only CONNECT can name an address.
 */
function isForwarding(url: URL, proxy: Proxy | undefined, config: HostOptions): boolean {
  const isTunnelled = url.protocol === 'https:' || config.resolve !== undefined
  return proxy !== undefined && proxy.scheme !== 'socks5' && !isTunnelled
}

function plain({ url, headers }: OutgoingRequest) {
  return { path: url.pathname + url.search, headers }
}

/** Returns the request in absolute form (RFC 9112 3.2.2). */
function forwarded({ url, headers }: OutgoingRequest, proxy: Proxy) {
  const authorization = proxyAuthorization(proxy)
  return {
    path: url.origin + url.pathname + url.search,
    headers: {
      ...headers,
      host: url.host,
      ...(authorization !== undefined && { 'proxy-authorization': authorization }),
    },
  }
}
