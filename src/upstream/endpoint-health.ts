// How each endpoint fares: who fails is asked last, and not by every request. The endpoint itself
// and where it redirects for content (another host, most often) fail apart.
import { LRUCache } from 'lru-cache'

import { Breaker, BREAKER_DEFAULTS } from './breaker.ts'
import type { Admission, BreakerOptions } from './breaker.ts'
import type { Endpoint } from './endpoint.ts'
import type { UpstreamError } from './failure.ts'
import type { UpstreamObserver } from './observer.ts'
import type { Lane, RateLimits } from './rate-limits.ts'

export type EndpointState = 'ok' | 'open' | 'half-open' | 'limited'

/** An endpoint's state for /metrics and /readyz. */
export interface EndpointReport {
  readonly endpoint: string
  readonly state: EndpointState
  /** Of the failure that made it so; no secret. */
  readonly message?: string | undefined
}

export interface HealthOptions {
  readonly rateLimits: RateLimits
  readonly observer?: UpstreamObserver | undefined
  readonly now?: () => number
  readonly breaker?: Partial<BreakerOptions>
}

/** The endpoint, or where it redirects for content. */
export type Part = 'itself' | 'storage'

interface Entry {
  readonly host: string
  readonly breakers: Readonly<Record<Part, Breaker>>
  told: EndpointState
  last?: UpstreamError
  /** Somebody asks it although it fails: the others wait for what comes of it. */
  attempt?: Promise<void> | undefined
}

/** With "*" clients name endpoints. */
const MAX_ENDPOINTS = 1024

export class EndpointHealth {
  readonly rateLimits: RateLimits
  readonly #options: HealthOptions
  readonly #breaker: BreakerOptions
  readonly #now: () => number
  readonly #entries = new LRUCache<string, Entry>({ max: MAX_ENDPOINTS })

  constructor(options: HealthOptions) {
    const { now = Date.now, breaker } = options
    this.#options = options
    this.#now = now
    this.rateLimits = options.rateLimits
    this.#breaker = { ...BREAKER_DEFAULTS, random: Math.random, ...breaker }
  }

  /** Whether to ask it now. Whoever does reports by `succeeded`, `failed` or `abandoned`. */
  admit(endpoint: Endpoint, lane: Lane): Admission {
    const nowMs = this.#now()
    const parts = this.#parts(endpoint, lane)
    if (parts.some((breaker) => breaker.refuses(nowMs))) return 'refuse'
    const admissions = parts.map((breaker) => breaker.admit(nowMs))
    this.#tell(endpoint)
    return admissions.includes('probe') ? 'probe' : 'ask'
  }

  stateOf(endpoint: Pick<Endpoint, 'key' | 'host'>): EndpointState {
    const entry = this.#entries.peek(endpoint.key)
    const states = entry === undefined ? [] : Object.values(entry.breakers).map((b) => b.state)
    if (states.includes('open')) return 'open'
    if (states.includes('half-open')) return 'half-open'
    return this.rateLimits.isLimited(endpoint.host) ? 'limited' : 'ok'
  }

  /** What it answered when it was last asked; only of meaning while it fails. */
  lastFailure(endpoint: Endpoint): UpstreamError | undefined {
    return this.#entries.get(endpoint.key)?.last
  }

  /** It answered, even if with 404; `storage`: with content, wherever that came from. */
  succeeded(endpoint: Endpoint, part: Part): void {
    const { itself, storage } = this.#entry(endpoint).breakers
    itself.succeeded()
    if (part === 'storage') storage.succeeded()
    else storage.abandoned(this.#now())
    this.#tell(endpoint)
  }

  /** Only that it cannot be used counts here: a refusal is an answer. */
  failed(endpoint: Endpoint, part: Part, error: UpstreamError, phase: 'head' | 'body'): void {
    const entry = this.#entry(endpoint)
    entry.last = error
    entry.breakers[part].failed(this.#now(), this.#weight(error, phase))
    this.#tell(endpoint)
  }

  /** Nothing is known of what became of it: the caller left. */
  abandoned(endpoint: Endpoint): void {
    const { breakers } = this.#entry(endpoint)
    for (const breaker of Object.values(breakers)) breaker.abandoned(this.#now())
    this.#tell(endpoint)
  }

  /** It answers to a probe: the next request may try. */
  answered(endpoint: Endpoint): void {
    const { breakers } = this.#entry(endpoint)
    for (const breaker of Object.values(breakers)) breaker.answered(this.#now())
  }

  /** Its rate limit was met or is over: told by what it does to the state. */
  limitChanged(endpoint: Endpoint, error?: UpstreamError): void {
    if (error !== undefined) this.#entry(endpoint).last = error
    this.#tell(endpoint)
  }

  /**
   * For an endpoint that fails, where nobody else can help: one asks, the others wait for what
   * comes of it, and ask too only if that was good. Throws what `ask` throws, or its last failure.
   */
  async lastResort<T>(endpoint: Endpoint, lane: Lane, ask: () => Promise<T>): Promise<T> {
    const entry = this.#entry(endpoint)
    if (entry.attempt === undefined) {
      const asked = ask()
      const ended = () => void (entry.attempt = undefined)
      entry.attempt = asked.then(ended, ended)
      return await asked
    }
    const { last: before } = entry
    await entry.attempt
    if (entry.last !== before && entry.last !== undefined) throw entry.last
    const works = this.#parts(endpoint, lane).every(({ state }) => state === 'closed')
    // Who asked may have left before there was an outcome.
    return works ? await ask() : await this.lastResort(endpoint, lane, ask)
  }

  /** Takes over what `former` knows of the endpoints that it may be kept of. */
  inherit(
    former: EndpointHealth,
    keeps: (endpoint: Pick<Endpoint, 'key' | 'host'>) => boolean,
  ): void {
    for (const [key, entry] of [...former.#entries.entries()].toReversed()) {
      if (keeps({ key, host: entry.host })) this.#entries.set(key, entry)
    }
  }

  /** From now on it is reported, asked or not. */
  know(endpoint: Endpoint): void {
    this.#entry(endpoint)
  }

  /** Of every endpoint that is known or was asked. */
  report(): EndpointReport[] {
    // Copied first: looking one up moves it within the cache, and a walk there would never end.
    return [...this.#entries.entries()].map(([endpoint, { host, last }]) => {
      const state = this.stateOf({ key: endpoint, host })
      return { endpoint, state, message: state === 'ok' ? undefined : last?.message }
    })
  }

  #entry(endpoint: Endpoint): Entry {
    const known = this.#entries.get(endpoint.key)
    if (known !== undefined) return known
    const breakers = { itself: new Breaker(this.#breaker), storage: new Breaker(this.#breaker) }
    const entry: Entry = { host: endpoint.host, breakers, told: 'ok' }
    this.#entries.set(endpoint.key, entry)
    return entry
  }

  #parts(endpoint: Endpoint, lane: Lane): Breaker[] {
    const { itself, storage } = this.#entry(endpoint).breakers
    return lane === 'content' ? [itself, storage] : [itself]
  }

  /** What costs every request its time is believed at once. */
  #weight({ reason }: UpstreamError, phase: 'head' | 'body'): number {
    const isSlow = reason === 'timed-out' || reason === 'name-not-resolved'
    return isSlow && phase === 'head' ? this.#breaker.threshold : 1
  }

  #tell(endpoint: Endpoint): void {
    const entry = this.#entry(endpoint)
    const state = this.stateOf(endpoint)
    if (state === entry.told) return
    const former = entry.told
    entry.told = state
    const message = state === 'ok' ? undefined : entry.last?.message
    this.#options.observer?.endpointState?.({ endpoint: endpoint.key, state, former, message })
  }
}
