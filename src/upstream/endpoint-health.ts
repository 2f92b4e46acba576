// How each endpoint fares: who fails is asked last, and not by every request. The endpoint itself,
// the documents it sends, and its content (from another host, most often) fail apart.
import { LRUCache } from 'lru-cache'

import { Breaker, BREAKER_DEFAULTS } from './breaker.ts'
import type { Admission, BreakerOptions } from './breaker.ts'
import type { Endpoint } from './endpoint.ts'
import type { UpstreamError } from './failure.ts'
import { NotAsked } from './not-asked.ts'
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

/**
 * That the endpoint answers; that manifests and lists come to their end; that blobs do, from there
 * or from where it redirects.
 */
export type Part = 'itself' | 'documents' | 'content'

/** A body that broke. */
export interface Break {
  readonly error: UpstreamError
  /** That came before. */
  readonly bytes: number
  /** When it was asked for, in milliseconds. */
  readonly startedAtMs: number
}

interface Entry {
  readonly host: string
  readonly breakers: Readonly<Record<Part, Breaker>>
  /** When a body last broke and last came to its end, by part. */
  readonly brokeAt: Partial<Record<Part, number>>
  readonly gaveAt: Partial<Record<Part, number>>
  /** What said when it wants to be asked again, by part. */
  readonly pauses: Partial<
    Record<Part, { readonly untilMs: number; readonly error: UpstreamError }>
  >
  told: EndpointState
  last?: UpstreamError
  latencyMs?: number
  /** Somebody asks it although it fails: the others wait for what comes of it. */
  attempt?: Promise<void> | undefined
}

/** Which bodies a lane is for. */
const BODIES = { content: 'content', rest: 'documents' } as const satisfies Record<Lane, Part>

/** What counts as getting on: a body that gave as much before it broke says little against the endpoint. */
const MUCH_BYTES = 1024 * 1024
const LIGHT_WEIGHT = 0.25
/** One byte is only asked for to learn of the rest. */
const LEAST_BYTES = 2
/** However long it wants to be left alone when it fails: it may be back before. */
const LONGEST_PAUSE_MS = 300_000

/** With "*" clients name endpoints. */
const MAX_ENDPOINTS = 1024
/** By this part of the difference an answer that is slower than those before counts. */
const SLOWER = 1 / 8

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

  /**
   * Whether to ask it now. Whoever does reports: `answered`, then `gave`, `broke` or `left` of a body;
   * else `failed` or `abandoned`.
   */
  admit(endpoint: Endpoint, lane: Lane): Admission {
    const nowMs = this.#now()
    const parts = this.#parts(endpoint, lane)
    if (parts.some((breaker) => breaker.refuses(nowMs))) return 'refuse'
    const admissions = parts.map((breaker) => breaker.admit(nowMs))
    this.#tell(endpoint)
    return admissions.includes('probe') ? 'probe' : 'ask'
  }

  /** Of all it is asked for, or of one lane. */
  stateOf(endpoint: Pick<Endpoint, 'key' | 'host'>, lane?: Lane): EndpointState {
    const { breakers } = this.#entries.peek(endpoint.key) ?? {}
    const states = breakers === undefined ? [] : partsOf(breakers, lane).map(({ state }) => state)
    if (states.includes('open')) return 'open'
    if (states.includes('half-open')) return 'half-open'
    return this.rateLimits.isLimited(endpoint.host) ? 'limited' : 'ok'
  }

  /** What it answered when it was last asked; only of meaning while it fails. */
  lastFailure(endpoint: Endpoint): UpstreamError | undefined {
    return this.#entries.get(endpoint.key)?.last
  }

  /** It answered, even if with 404. `lane`: whose body is not to come, so that says nothing of it. */
  answered(endpoint: Endpoint, lane?: Lane): void {
    const { breakers, pauses } = this.#entry(endpoint)
    breakers.itself.succeeded()
    delete pauses.itself
    if (lane !== undefined) breakers[BODIES[lane]].abandoned(this.#now())
    this.#tell(endpoint)
  }

  /** A body came to its end. */
  gave(endpoint: Endpoint, lane: Lane, bytes: number): void {
    if (lane === 'content' && bytes < LEAST_BYTES) return this.left(endpoint, lane, bytes)
    const { breakers, pauses, gaveAt } = this.#entry(endpoint)
    const part = BODIES[lane]
    breakers[part].succeeded()
    delete pauses[part]
    gaveAt[part] = this.#now()
    this.#tell(endpoint)
  }

  /** Of a body somebody did not want the rest. */
  left(endpoint: Endpoint, lane: Lane, bytes: number): void {
    if (bytes >= MUCH_BYTES) return this.gave(endpoint, lane, bytes)
    this.#entry(endpoint).breakers[BODIES[lane]].abandoned(this.#now())
    this.#tell(endpoint)
  }

  /** A body broke. Several that broke together are one failure: those that ran already. */
  broke(endpoint: Endpoint, lane: Lane, broken: Break): void {
    const entry = this.#entry(endpoint)
    const part = BODIES[lane]
    if (broken.startedAtMs < (entry.brokeAt[part] ?? -Infinity)) return
    entry.brokeAt[part] = this.#now()
    entry.last = broken.error
    const isAlone = broken.startedAtMs >= (entry.gaveAt[part] ?? -Infinity)
    const weight = this.#weightOf(broken, lane, isAlone)
    entry.breakers[part].failed(this.#now(), weight)
    this.#tell(endpoint)
  }

  /** Only that it cannot be used counts here: a refusal is an answer. */
  failed(endpoint: Endpoint, part: Part, error: UpstreamError): void {
    const entry = this.#entry(endpoint)
    const nowMs = this.#now()
    const { reason, retryAfterMs = 0 } = error
    const pauseMs = Math.min(retryAfterMs, LONGEST_PAUSE_MS)
    // What costs every request its time is believed at once, and so is who says how long he is away.
    const isSlow = reason === 'timed-out' || reason === 'name-not-resolved'
    entry.last = error
    if (pauseMs > 0) entry.pauses[part] = { untilMs: nowMs + pauseMs, error }
    entry.breakers[part].failed(nowMs, isSlow || pauseMs > 0 ? this.#breaker.threshold : 1, pauseMs)
    for (const [other, breaker] of Object.entries(entry.breakers)) {
      if (other !== part) breaker.abandoned(nowMs)
    }
    this.#tell(endpoint)
  }

  /** Throws NotAsked while the time lasts that it told us to leave it alone, when it failed. */
  checkPause(endpoint: Endpoint, lane: Lane): void {
    const { pauses } = this.#entry(endpoint)
    for (const part of ['itself', BODIES[lane]] as const) {
      const { untilMs = 0, error } = pauses[part] ?? {}
      const ms = untilMs - this.#now()
      if (ms > 0) throw new NotAsked(endpoint, { ms, instead: error })
    }
  }

  /** Nothing is known of what became of it: the caller left. */
  abandoned(endpoint: Endpoint): void {
    const { breakers } = this.#entry(endpoint)
    for (const breaker of Object.values(breakers)) breaker.abandoned(this.#now())
    this.#tell(endpoint)
  }

  /** It answered so long after it was asked. */
  heard(endpoint: Endpoint, ms: number): void {
    const entry = this.#entry(endpoint)
    const { latencyMs: known = ms } = entry
    entry.latencyMs = Math.min(ms, known + (ms - known) * SLOWER)
  }

  /** Its quickest answers lately came after so many milliseconds: what is slower was busy, not far. */
  latencyMs(endpoint: Endpoint): number | undefined {
    return this.#entries.peek(endpoint.key)?.latencyMs
  }

  /** It answers to a probe: the next request may try. Of bodies that says nothing, but their turn may have come. */
  pinged(endpoint: Endpoint): void {
    const nowMs = this.#now()
    const { itself, documents, content } = this.#entry(endpoint).breakers
    itself.answered(nowMs)
    for (const breaker of [documents, content]) {
      if (breaker.state === 'half-open') breaker.answered(nowMs)
    }
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
    const breakers = {
      itself: new Breaker(this.#breaker),
      documents: new Breaker(this.#breaker),
      content: new Breaker(this.#breaker),
    }
    const { host } = endpoint
    const entry: Entry = { host, breakers, brokeAt: {}, gaveAt: {}, pauses: {}, told: 'ok' }
    this.#entries.set(endpoint.key, entry)
    return entry
  }

  #parts(endpoint: Endpoint, lane: Lane): Breaker[] {
    return partsOf(this.#entry(endpoint).breakers, lane)
  }

  /** `isAlone`: nothing came to its end meanwhile. */
  #weightOf({ error, bytes }: Break, lane: Lane, isAlone: boolean): number {
    if (bytes >= MUCH_BYTES) return LIGHT_WEIGHT
    // A link that loses packets may stall in mid-blob, but a document is over before.
    const isDead = error.reason === 'timed-out' && (lane === 'rest' || bytes === 0)
    return isDead && isAlone ? this.#breaker.threshold : 1
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

function partsOf(breakers: Entry['breakers'], lane?: Lane): Breaker[] {
  return lane === undefined ? Object.values(breakers) : [breakers.itself, breakers[BODIES[lane]]]
}
