// Connections: one bounded pool per origin, TLS state, reach and lane. Sends single requests;
// redirects, authorisation and what an answer means are the client's.
import { setImmediate } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'
import { buildConnector, Pool } from 'undici'

import { addressClass } from './addresses.ts'
import type { AddressClass, Reach } from './addresses.ts'
import { Exchange } from './exchange.ts'
import type { ExchangeOptions, Head } from './exchange.ts'
import { configForHost, exactConfig } from './host-config.ts'
import type { UpstreamLimits } from './limits.ts'
import { checkLiteral, guardedLookup } from './lookup.ts'
import { Resolver } from './resolver.ts'
import { isStaleConnection } from './stale-connection.ts'
import { TlsFiles } from './tls.ts'
import type { TlsOptions, TlsState } from './tls.ts'

/** What the transport needs of a `configs` entry. */
export interface HostOptions {
  readonly tls?: TlsOptions | undefined
  /** IP addresses to use instead of DNS. */
  readonly resolve?: readonly string[] | undefined
}

export interface TransportOptions {
  readonly resolver?: Resolver | undefined
}

export interface OutgoingRequest {
  readonly url: URL
  /** Its key in `configs`; endpoints may be written with a port that a URL leaves out. */
  readonly host: string
  readonly method: 'GET' | 'HEAD' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | undefined
  /** Where the name may resolve to. */
  readonly reach: Reach
  /** Content and everything else have connections of their own. */
  readonly lane: 'content' | 'rest'
}

export interface Answer extends Head {
  readonly body: Exchange
}

const MAX_POOLS = 256
const KEEP_ALIVE_MS = 15_000
/** Node gives an address up after this long if there is another; its 250 ms is less than far links take. */
const ATTEMPT_TIMEOUT_MS = 1500
const PLAIN: HostOptions = {}

export class Transport {
  readonly #hosts: Readonly<Record<string, HostOptions>>
  readonly #limits: UpstreamLimits
  readonly #resolver: Resolver
  readonly #tls = new Map<TlsOptions | undefined, TlsFiles>()
  readonly #networks = new LRUCache<string, AddressClass>({ max: 4096 })
  readonly #pools = new LRUCache<string, Pool>({
    max: MAX_POOLS,
    // What is running on it goes on to its end.
    dispose: (pool) => void pool.close().catch(() => undefined),
  })

  constructor(
    hosts: Readonly<Record<string, HostOptions>>,
    limits: UpstreamLimits,
    { resolver = new Resolver() }: TransportOptions = {},
  ) {
    this.#hosts = hosts
    this.#limits = limits
    this.#resolver = resolver
  }

  /** Throws AddressRefused, TlsFileError, the network's own error, or the signal's reason. */
  async send(request: OutgoingRequest, options: ExchangeOptions): Promise<Answer> {
    try {
      return await this.#sendOnce(request, options)
    } catch (error) {
      // The other side may close a kept connection just when we use it: then once more.
      if (options.signal?.aborted === true || !isStaleConnection(error)) throw error
      return await this.#sendOnce(request, options)
    }
  }

  /** How far an origin may lead us: to its own network, as the last connection to it found that. */
  reachFrom(origin: string): Reach {
    return this.#networks.get(origin) ?? 'public'
  }

  /** Breaks off what is running. */
  async close(): Promise<void> {
    const pools = [...this.#pools.values()]
    await Promise.all(pools.map((pool) => pool.destroy()))
    this.#pools.clear()
  }

  async #sendOnce(request: OutgoingRequest, options: ExchangeOptions): Promise<Answer> {
    const pool = await this.#poolFor(request)
    const exchange = new Exchange(options)
    // undici learns a turn after an answer's end that its connection is free: at once, the next
    // request (HEAD, then GET) would open another one.
    await setImmediate()
    exchange.throwIfAborted()
    if (options.signal?.aborted !== true) {
      pool.dispatch(
        {
          path: request.url.pathname + request.url.search,
          method: request.method,
          headers: request.headers,
          ...(request.body !== undefined && { body: request.body }),
          headersTimeout: this.#limits.headersTimeoutMs,
          bodyTimeout: this.#limits.bodyStallMs,
          // Else undici closes the connection after every HEAD, and each freshness check costs a handshake.
          reset: false,
        },
        exchange,
      )
    }
    return { ...(await exchange.head), body: exchange }
  }

  async #poolFor(request: OutgoingRequest): Promise<Pool> {
    const { url, host, lane } = request
    // The operator gave the addresses of this very host: wherever they are, they are meant.
    const isFixed = exactConfig(this.#hosts, host)?.resolve !== undefined
    const reach = isFixed ? 'any' : request.reach
    checkLiteral(url.hostname, reach)
    const config = configForHost(this.#hosts, host) ?? PLAIN
    const tls = url.protocol === 'https:' ? await this.#tlsFor(config.tls).current() : undefined
    const key = [url.origin, host, tls?.generation ?? 0, reach, lane].join(' ')
    const known = this.#pools.get(key)
    if (known !== undefined) return known
    const pool = this.#createPool(url.origin, reach, config, tls)
    this.#pools.set(key, pool)
    return pool
  }

  #tlsFor(options: TlsOptions | undefined): TlsFiles {
    const known = this.#tls.get(options)
    const files = known ?? new TlsFiles(options)
    if (known === undefined) this.#tls.set(options, files)
    return files
  }

  #createPool(origin: string, reach: Reach, config: HostOptions, tls: TlsState | undefined): Pool {
    const connect = buildConnector({
      // Four connections would become four streams of one, and share its losses.
      allowH2: false,
      timeout: this.#limits.connectTimeoutMs,
      lookup: guardedLookup(reach, config.resolve, this.#resolver),
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: ATTEMPT_TIMEOUT_MS,
      ...(tls && { secureContext: tls.context, rejectUnauthorized: tls.verify }),
    })
    return new Pool(origin, {
      connect: this.#remembering(origin, connect),
      connections: this.#limits.connections,
      maxHeaderSize: this.#limits.headerBytes,
      keepAliveTimeout: KEEP_ALIVE_MS,
      allowH2: false,
    })
  }

  #remembering(origin: string, connect: buildConnector.connector): buildConnector.connector {
    return (options, callback) => {
      connect(options, (...[error, socket]) => {
        const network = addressClass(socket?.remoteAddress ?? '')
        if (network !== undefined) this.#networks.set(origin, network)
        if (error === null) callback(null, socket)
        else callback(error, null)
      })
    }
  }
}
