// The health of each endpoint, so that endpoints that are down are asked last, and not by every
// request. The endpoint, the bodies of its documents and its content fail separately: content mostly
// comes from another host.
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
  /** The failure that led to the state. Holds no secret. */
  readonly message?: string | undefined
}

export interface HealthOptions {
  readonly rateLimits: RateLimits
  readonly observer?: UpstreamObserver | undefined
  readonly now?: () => number
  readonly breaker?: Partial<BreakerOptions>
}

/**
 * What can fail. `endpoint`: it gives no answer. `documents`: manifests and lists break off.
 * `content`: blobs do, from there or from where it redirects to.
 */
export type Part = 'endpoint' | 'documents' | 'content'

/** A body that broke off. */
export interface Break {
  readonly error: UpstreamError
  /** How many came before it broke. */
  readonly bytes: number
  /** When its request was sent, in milliseconds since 1970. */
  readonly startedAtMs: number
}

interface Entry {
  readonly host: string
  readonly breakers: Readonly<Record<Part, Breaker>>
  /** When a body last broke off and last completed, by part. */
  readonly failedAt: Partial<Record<Part, number>>
  readonly completedAt: Partial<Record<Part, number>>
  /** Failures that said when to ask again, by part. */
  readonly pauses: Partial<
    Record<Part, { readonly untilMs: number; readonly error: UpstreamError }>
  >
  told: EndpointState
  /** The last state that was told and was not half-open. */
  settled: EndpointState
  last?: UpstreamError
  latencyMs?: number
  /** A request to an endpoint that is down. Others wait for its outcome. */
  attempt?: Promise<Outcome> | undefined
}

/** How an attempt ended. `left`: its caller left, or the error was our own: it says nothing. */
type Outcome = 'answered' | 'failed' | 'left'

/** The part that the bodies of a lane belong to. */
const BODIES = { content: 'content', metadata: 'documents' } as const satisfies Record<Lane, Part>

/** A body that brought this many bytes before it broke off says little against the endpoint. */
const SUBSTANTIAL_BYTES = 1024 * 1024
const LIGHT_WEIGHT = 0.25
/** Fewer bytes prove nothing: one byte is asked for only to learn the size. */
const LEAST_BYTES = 2
/** A failing endpoint may be back before the Retry-After that it sent. */
const MAX_PAUSE_MS = 300_000

/** With "*" clients name endpoints, so their number must be bounded. */
const MAX_ENDPOINTS = 1024
/** How long to wait for a running trial or probe: an endpoint that works answers well before. */
const TRIAL_PATIENCE_MS = 2000
/** The readiness of several parts is the first of these that any of them has. */
const LEAST_READY = ['open', 'due', 'on-trial', 'closed'] as const
/** The share by which an answer that is slower than those before it raises the latency. */
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

  /** Returns what a request in this lane would find. Changes nothing. */
  readiness(endpoint: Pick<Endpoint, 'key'>, lane: Lane): Readiness {
    const { breakers } = this.#entries.peek(endpoint.key) ?? {}
    if (breakers === undefined) return 'closed'
    const nowMs = this.#now()
    const all = partsOf(breakers, lane).map((breaker) => breaker.readiness(nowMs))
    return LEAST_READY.find((each) => all.includes(each)) ?? 'closed'
  }

  /**
   * Lets a request through that is about to be sent, or returns undefined. Report its outcome
   * (`answered`, then `bodyCompleted`, `bodyFailed` or `bodyAbandoned`; or else `failed`), then
   * dispose of the admission. While it is held and is a trial, nobody else is let through.
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
    const isOver = new Error('the trial is still running')
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

  /** Returns the state of all parts, or of those that one lane needs. */
  stateOf(endpoint: Pick<Endpoint, 'key' | 'host'>, lane?: Lane): EndpointState {
    const { breakers } = this.#entries.peek(endpoint.key) ?? {}
    const states = breakers === undefined ? [] : partsOf(breakers, lane).map(({ state }) => state)
    if (states.includes('open')) return 'open'
    if (states.includes('half-open')) return 'half-open'
    return this.rateLimits.isLimited(endpoint.host) ? 'limited' : 'ok'
  }

  /** Returns the last failure. It means something only while the endpoint is down. */
  lastFailure(endpoint: Endpoint): UpstreamError | undefined {
    return this.#entries.get(endpoint.key)?.last
  }

  /** The endpoint answered, even if with 404. */
  answered(endpoint: Endpoint): void {
    const { breakers, pauses } = this.#entry(endpoint)
    breakers.endpoint.succeeded()
    delete pauses.endpoint
    this.#tell(endpoint)
  }

  /** A body was received in full. */
  bodyCompleted(endpoint: Endpoint, lane: Lane, bytes: number): void {
    if (lane === 'content' && bytes < LEAST_BYTES) return
    const { breakers, pauses, completedAt } = this.#entry(endpoint)
    const part = BODIES[lane]
    breakers[part].succeeded()
    delete pauses[part]
    completedAt[part] = this.#now()
    this.#tell(endpoint)
  }

  /** The reader did not want the rest of a body. */
  bodyAbandoned(endpoint: Endpoint, lane: Lane, bytes: number): void {
    if (bytes >= SUBSTANTIAL_BYTES) this.bodyCompleted(endpoint, lane, bytes)
  }

  /**
   * A body broke off. Bodies whose requests were sent before the last failure belong to the same
   * outage and are not counted again.
   */
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

  /** The endpoint cannot be used at all. A refusal does not count: it is an answer. */
  failed(endpoint: Endpoint, part: Part, error: UpstreamError): void {
    const entry = this.#entry(endpoint)
    const nowMs = this.#now()
    const { reason, retryAfterMs = 0 } = error
    const pauseMs = Math.min(retryAfterMs, MAX_PAUSE_MS)
    // Opens at once for failures that cost every request its time, and for a Retry-After.
    const isSlow = reason === 'timed-out' || reason === 'name-not-resolved'
    entry.last = error
    if (pauseMs > 0) entry.pauses[part] = { untilMs: nowMs + pauseMs, error }
    entry.breakers[part].failed(nowMs, isSlow || pauseMs > 0 ? this.#breaker.threshold : 1, pauseMs)
    this.#tell(endpoint)
  }

  /** Throws NotAsked until the time in the Retry-After of its last failure is over. */
  checkPause(endpoint: Endpoint, lane: Lane): void {
    const { pauses } = this.#entry(endpoint)
    for (const part of ['endpoint', BODIES[lane]] as const) {
      const { untilMs = 0, error } = pauses[part] ?? {}
      const ms = untilMs - this.#now()
      if (ms > 0) throw new NotAsked(endpoint, { ms, instead: error })
    }
  }

  /** The head of an answer came this many milliseconds after the request was sent. */
  recordLatency(endpoint: Endpoint, ms: number): void {
    const entry = this.#entry(endpoint)
    const { latencyMs: known = ms } = entry
    entry.latencyMs = Math.min(ms, known + (ms - known) * SLOWER)
  }

  /**
   * Returns how many milliseconds the quickest recent answers took. Slower answers say that the
   * endpoint was busy, not that it is far away.
   */
  latencyMs(endpoint: Endpoint): number | undefined {
    return this.#entries.peek(endpoint.key)?.latencyMs
  }

  /**
   * The endpoint answered a probe, so it is `ok` and asked in its turn, by one request at a time until
   * one has succeeded. A probe says nothing about bodies: those breakers go on trial only when their
   * open time is over. It does not end the time in a Retry-After either.
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

  /** The endpoint has refused a request because of a rate limit, or its limit is over. */
  limitChanged(endpoint: Endpoint, error?: UpstreamError): void {
    if (error !== undefined) this.#entry(endpoint).last = error
    this.#tell(endpoint)
  }

  /**
   * Asks an endpoint that is down when no other endpoint can help. One caller asks. The others wait
   * for its outcome, and ask too only if the endpoint answered. Rejects as `ask` does, with the
   * endpoint's last failure, or with the signal's reason.
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

  /** Takes over what `former` knows about the endpoints that `keeps` allows. */
  inherit(
    former: EndpointHealth,
    keeps: (endpoint: Pick<Endpoint, 'key' | 'host'>) => boolean,
  ): void {
    for (const [key, entry] of [...former.#entries.entries()].toReversed()) {
      if (keeps({ key, host: entry.host })) this.#entries.set(key, entry)
    }
  }

  /** Reports the endpoint from now on, even if it is never asked. */
  know(endpoint: Endpoint): void {
    this.#entry(endpoint)
  }

  /** Returns the state of every endpoint that is known or was asked. */
  report(): EndpointReport[] {
    // Copied first: a lookup moves the entry within the cache, and a walk over it would never end.
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

  /** `isAlone`: no body has completed since the request was sent. */
  #weightOf({ error, bytes }: Break, lane: Lane, isAlone: boolean): number {
    if (bytes >= SUBSTANTIAL_BYTES) return LIGHT_WEIGHT
    // A link that loses packets may stall in the middle of a blob, but not of a short document.
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
