// How each endpoint fares: who fails is asked last, and not by every request. The endpoint itself,
// the documents it sends, and its content (from another host, most often) fail apart.
import { LRUCache } from 'lru-cache'

import { Breaker, BREAKER_DEFAULTS } from './breaker.ts'
import type { Admission, BreakerOptions, Readiness } from './breaker.ts'
import { Deadline, waitFor } from '../deadline.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { UpstreamError } from '../face/failure.ts'
import { NotAsked } from './not-asked.ts'
import type { UpstreamObserver, EndpointState } from '../face/observer.ts'
import type { Lane, RateLimits } from './quotas.ts'

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
export type Part = 'endpoint' | 'documents' | 'content'

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
  readonly failedAt: Partial<Record<Part, number>>
  readonly completedAt: Partial<Record<Part, number>>
  /** What said when it wants to be asked again, by part. */
  readonly pauses: Partial<
    Record<Part, { readonly untilMs: number; readonly error: UpstreamError }>
  >
  told: EndpointState
  /** The last state that was told and is not half-open. */
  settled: EndpointState
  last?: UpstreamError
  latencyMs?: number
  /** A request that asks it although it fails: the others wait for its outcome. */
  attempt?: Promise<Outcome> | undefined
}

/** How an attempt ended; `left`: whoever made it is gone, and it says nothing. */
type Outcome = 'answered' | 'failed' | 'left'

/** Which bodies a lane is for. */
const BODIES = { content: 'content', metadata: 'documents' } as const satisfies Record<Lane, Part>

/** What counts as getting on: a body that gave as much before it broke says little against the endpoint. */
const SUBSTANTIAL_BYTES = 1024 * 1024
const LIGHT_WEIGHT = 0.25
/** One byte is only asked for to learn of the rest. */
const LEAST_BYTES = 2
/** However long it wants to be left alone when it fails: it may be back before. */
const MAX_PAUSE_MS = 300_000

/** With "*" clients name endpoints. */
const MAX_ENDPOINTS = 1024
/** A running trial or probe is waited for this long: an endpoint that works answers well before. */
const TRIAL_PATIENCE_MS = 2000
/** For several parts, the first of these that one of them is. */
const LEAST_READY = ['open', 'due', 'on-trial', 'closed'] as const
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

  /** What a request in this lane would find. Changes nothing. */
  readiness(endpoint: Pick<Endpoint, 'key'>, lane: Lane): Readiness {
    const { breakers } = this.#entries.peek(endpoint.key) ?? {}
    if (breakers === undefined) return 'closed'
    const nowMs = this.#now()
    const all = partsOf(breakers, lane).map((breaker) => breaker.readiness(nowMs))
    return LEAST_READY.find((each) => all.includes(each)) ?? 'closed'
  }

  /**
   * Lets a request through that is about to be sent, or returns undefined. Report its outcome
   * (`answered`, then `gave`, `broke` or `left` for a body; else `failed`), then dispose of the
   * admission: until then nobody else is let through if it is a trial.
   */
  admit(endpoint: Endpoint, lane: Lane): Admission | undefined {
    const nowMs = this.#now()
    const parts = this.#parts(endpoint, lane)
    if (parts.some((breaker) => breaker.readiness(nowMs) === 'open')) return undefined
    const admissions = parts.flatMap((breaker) => breaker.admit(nowMs) ?? [])
    const isTrial = admissions.some((each) => each.isTrial)
    if (isTrial) this.#tell(endpoint)
    return {
      isTrial,
      [Symbol.dispose]: () => {
        for (const each of admissions) each[Symbol.dispose]()
        if (isTrial) this.#tell(endpoint)
      },
    }
  }

  /**
   * Like `admit`, but while a trial or a probe is running, waits up to two seconds for its outcome.
   * Throws the signal's reason.
   */
  async admitAfterTrial(
    endpoint: Endpoint,
    lane: Lane,
    signal?: AbortSignal,
  ): Promise<Admission | undefined> {
    const isOver = new Error('the trial goes on')
    using patience = new Deadline(TRIAL_PATIENCE_MS, () => isOver, signal)
    for (;;) {
      const admission = this.admit(endpoint, lane)
      const trials = this.#parts(endpoint, lane).flatMap(({ trial }) => trial ?? [])
      if (admission !== undefined || trials.length === 0) return admission
      try {
        await waitFor(Promise.all(trials), patience.signal)
      } catch (error) {
        if (error === isOver) return undefined
        throw error
      }
    }
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

  /** It answered, even if with 404. */
  answered(endpoint: Endpoint): void {
    const { breakers, pauses } = this.#entry(endpoint)
    breakers.endpoint.succeeded()
    delete pauses.endpoint
    this.#tell(endpoint)
  }

  /** A body came to its end. */
  bodyCompleted(endpoint: Endpoint, lane: Lane, bytes: number): void {
    if (lane === 'content' && bytes < LEAST_BYTES) return
    const { breakers, pauses, completedAt } = this.#entry(endpoint)
    const part = BODIES[lane]
    breakers[part].succeeded()
    delete pauses[part]
    completedAt[part] = this.#now()
    this.#tell(endpoint)
  }

  /** The rest of a body was not wanted. */
  bodyAbandoned(endpoint: Endpoint, lane: Lane, bytes: number): void {
    if (bytes >= SUBSTANTIAL_BYTES) this.bodyCompleted(endpoint, lane, bytes)
  }

  /** A body broke. Several that broke together are one failure: those that ran already. */
  bodyFailed(endpoint: Endpoint, lane: Lane, broken: Break): void {
    const entry = this.#entry(endpoint)
    const part = BODIES[lane]
    if (broken.startedAtMs < (entry.failedAt[part] ?? -Infinity)) return
    entry.failedAt[part] = this.#now()
    entry.last = broken.error
    const isAlone = broken.startedAtMs >= (entry.completedAt[part] ?? -Infinity)
    const weight = this.#weightOf(broken, lane, isAlone)
    entry.breakers[part].failed(this.#now(), weight)
    this.#tell(endpoint)
  }

  /** Only that it cannot be used counts here: a refusal is an answer. */
  failed(endpoint: Endpoint, part: Part, error: UpstreamError): void {
    const entry = this.#entry(endpoint)
    const nowMs = this.#now()
    const { reason, retryAfterMs = 0 } = error
    const pauseMs = Math.min(retryAfterMs, MAX_PAUSE_MS)
    // What costs every request its time is believed at once, and so is who says how long he is away.
    const isSlow = reason === 'timed-out' || reason === 'name-not-resolved'
    entry.last = error
    if (pauseMs > 0) entry.pauses[part] = { untilMs: nowMs + pauseMs, error }
    entry.breakers[part].failed(nowMs, isSlow || pauseMs > 0 ? this.#breaker.threshold : 1, pauseMs)
    this.#tell(endpoint)
  }

  /** Throws NotAsked while the time lasts that it told us to leave it alone, when it failed. */
  checkPause(endpoint: Endpoint, lane: Lane): void {
    const { pauses } = this.#entry(endpoint)
    for (const part of ['endpoint', BODIES[lane]] as const) {
      const { untilMs = 0, error } = pauses[part] ?? {}
      const ms = untilMs - this.#now()
      if (ms > 0) throw new NotAsked(endpoint, { ms, instead: error })
    }
  }

  /** It answered so long after it was asked. */
  recordLatency(endpoint: Endpoint, ms: number): void {
    const entry = this.#entry(endpoint)
    const { latencyMs: known = ms } = entry
    entry.latencyMs = Math.min(ms, known + (ms - known) * SLOWER)
  }

  /** Its quickest answers lately came after so many milliseconds: what is slower was busy, not far. */
  latencyMs(endpoint: Endpoint): number | undefined {
    return this.#entries.peek(endpoint.key)?.latencyMs
  }

  /**
   * It answered a probe, so it is `ok` and asked in its turn, by one request at a time until one has
   * succeeded. A probe says nothing about bodies: they are given another chance only when their open
   * time is over. Nor does it end the time for which the endpoint asked to be left alone.
   */
  probed(endpoint: Endpoint): void {
    const nowMs = this.#now()
    const { breakers, pauses } = this.#entry(endpoint)
    const isPaused = (pauses.endpoint?.untilMs ?? 0) > nowMs
    breakers.endpoint.probed(nowMs, !isPaused)
    breakers.documents.probed(nowMs, false)
    breakers.content.probed(nowMs, false)
    this.#tell(endpoint)
  }

  /** Its rate limit was met or is over: told by what it does to the state. */
  limitChanged(endpoint: Endpoint, error?: UpstreamError): void {
    if (error !== undefined) this.#entry(endpoint).last = error
    this.#tell(endpoint)
  }

  /**
   * Asks an endpoint that fails, where no other endpoint can help. One caller asks, the others wait
   * for the outcome and ask too only if it answered. Throws what `ask` throws, the endpoint's last
   * failure, or the signal's reason.
   */
  async lastResort<T>(endpoint: Endpoint, ask: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const entry = this.#entry(endpoint)
    const { attempt, last: before } = entry
    if (attempt === undefined) return await attemptAt(entry, ask)
    const outcome = await waitFor(attempt, signal)
    if (outcome === 'left') return await this.lastResort(endpoint, ask, signal)
    if (outcome === 'failed' && entry.last !== undefined && entry.last !== before) throw entry.last
    return await ask()
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
      endpoint: new Breaker(this.#breaker),
      documents: new Breaker(this.#breaker),
      content: new Breaker(this.#breaker),
    }
    const { host } = endpoint
    const states = { told: 'ok', settled: 'ok' } as const
    const entry: Entry = { host, breakers, failedAt: {}, completedAt: {}, pauses: {}, ...states }
    this.#entries.set(endpoint.key, entry)
    return entry
  }

  #parts(endpoint: Endpoint, lane: Lane): Breaker[] {
    return partsOf(this.#entry(endpoint).breakers, lane)
  }

  /** `isAlone`: nothing came to its end meanwhile. */
  #weightOf({ error, bytes }: Break, lane: Lane, isAlone: boolean): number {
    if (bytes >= SUBSTANTIAL_BYTES) return LIGHT_WEIGHT
    // A link that loses packets may stall in mid-blob, but a document is over before.
    const isDead = error.reason === 'timed-out' && (lane === 'metadata' || bytes === 0)
    return isDead && isAlone ? this.#breaker.threshold : 1
  }

  #tell(endpoint: Endpoint): void {
    const entry = this.#entry(endpoint)
    const state = this.stateOf(endpoint)
    if (state === entry.told) return
    const { settled: former } = entry
    entry.told = state
    if (state !== 'half-open') entry.settled = state
    const message = state === 'ok' ? undefined : entry.last?.message
    this.#options.observer?.endpointState?.({ endpoint: endpoint.key, state, former, message })
  }
}

async function attemptAt<T>(entry: Entry, ask: () => Promise<T>): Promise<T> {
  const asked = ask()
  const ended = (outcome: Outcome): Outcome => {
    entry.attempt = undefined
    return outcome
  }
  entry.attempt = asked.then(
    () => ended('answered'),
    (error: unknown) => ended(error instanceof UpstreamError ? 'failed' : 'left'),
  )
  return await asked
}

function partsOf(breakers: Entry['breakers'], lane?: Lane): Breaker[] {
  return lane === undefined ? Object.values(breakers) : [breakers.endpoint, breakers[BODIES[lane]]]
}
