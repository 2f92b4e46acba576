// What registries have said about their rate limits, by host and credential: how many requests are
// left, and until when not to ask. Kept in memory only: the next answer says it again.
import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'

import { fingerprintOf } from '../credentials/credentials.ts'
import type { Credential } from '../credentials/credentials.ts'
import { parseRateLimit } from './rate-limit.ts'
import type { RateLimit } from './rate-limit.ts'
import type { Headers } from '../../http/headers.ts'
import type { Budget } from '../face/answers.ts'

/** Registries count requests for content separately, so a limit applies to one lane. */
export type Lane = 'content' | 'metadata'

/** What is known of one credential at one host. */
export interface RateLimitReport {
  /** The `key` of the endpoint that said it. */
  readonly endpoint: string
  /** `anonymous`, or a label that reveals nothing of the credential. */
  readonly credential: string
  readonly limit: number
  readonly remaining: number
  /** What the registry counts by: our address, or the account. */
  readonly source?: string | undefined
}

interface Known {
  readonly endpoint: string
  readonly host: string
  readonly label: string
  limit?: RateLimit
  readonly waits: Partial<Record<Lane, number>>
  /** Lanes for which the registry did not say how long to wait. */
  readonly guessed: Set<Lane>
  refusals: number
}

type Asked = { readonly key: string; readonly host: string }

const MAX_KNOWN = 1024
const LOW_SHARE = 0.1
/** The first wait if a registry refuses without a Retry-After. Doubled each time. */
const FIRST_WAIT_MS = 5000
const MAX_GUESS_MS = 120_000
/**
 * A registry is asked again after this even if it said longer: limits are lifted, clocks are wrong.
 */
const MAX_WAIT_MS = 3_600_000

export class RateLimits {
  readonly #now: () => number
  readonly #known = new LRUCache<string, Known>({
    max: MAX_KNOWN,
    dispose: (known) => this.#forget(known),
  })
  /** The same values by host, which are looked up for every source and every request. */
  readonly #byHost = new Map<string, Set<Known>>()

  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /** Records what an answer's headers say. */
  read(endpoint: Asked, credential: Credential, headers: Headers): void {
    const limit = parseRateLimit(headers, this.#now())
    if (limit !== undefined) this.learn(endpoint, credential, limit)
  }

  learn(endpoint: Asked, credential: Credential, limit: RateLimit): void {
    this.#of(endpoint, credential).limit = limit
  }

  /** Records a refusal. `retryAfterMs` is how long the registry said to wait, if it did. */
  refused(
    endpoint: Asked,
    credential: Credential,
    lane: Lane,
    retryAfterMs: number | undefined,
  ): void {
    const known = this.#of(endpoint, credential)
    const guess = Math.min(FIRST_WAIT_MS * 2 ** known.refusals, MAX_GUESS_MS)
    known.refusals = Math.min(known.refusals + 1, 10)
    const untilMs = this.#now() + Math.min(retryAfterMs ?? guess, MAX_WAIT_MS)
    if (untilMs <= (known.waits[lane] ?? 0)) return
    known.waits[lane] = untilMs
    if (retryAfterMs === undefined) known.guessed.add(lane)
    else known.guessed.delete(lane)
  }

  /** Records that a request was granted. */
  granted(endpoint: Asked, credential: Credential): void {
    // Creates the entry even without a limit: `isLimited` must know that this credential is free.
    this.#of(endpoint, credential).refusals = 0
  }

  /** Returns for how many milliseconds not to ask. 0 means that it may be asked. */
  waitMs(endpoint: { readonly host: string }, credential: Credential, lane: Lane): number {
    const known = this.#known.get(keyOf(endpoint.host, credential))
    return Math.max(0, (known?.waits[lane] ?? 0) - this.#now())
  }

  /** Reports whether the time that `waitMs` returns is our guess, not the registry's word. */
  isGuess(endpoint: { readonly host: string }, credential: Credential, lane: Lane): boolean {
    return this.#known.get(keyOf(endpoint.host, credential))?.guessed.has(lane) === true
  }

  /** Reports whether every known credential of the host has to wait, in any lane. */
  isLimited(host: string): boolean {
    const all = this.#at(host)
    return all.length > 0 && all.every(({ waits }) => this.#isWaiting(waits))
  }

  /**
   * Returns the budget of the credential that has most left, or undefined if the host names no
   * limit.
   */
  budget(host: string): Budget | undefined {
    const limits = this.#at(host).flatMap((known) => this.#current(known) ?? [])
    const [best] = limits.toSorted((one, other) => other.remaining - one.remaining)
    if (best === undefined) return undefined
    const { limit, remaining } = best
    return { limit, remaining, low: remaining <= limit * LOW_SHARE }
  }

  /** Returns how many requests are left: Infinity if unknown, -1 if the credential has to wait. */
  remaining(host: string, credential: Credential): number {
    const known = this.#known.get(keyOf(host, credential))
    if (known === undefined) return Infinity
    return this.#isWaiting(known.waits) ? -1 : (this.#current(known)?.remaining ?? Infinity)
  }

  /** Returns what is known of each credential, for metrics. */
  report(): RateLimitReport[] {
    return [...this.#known.values()].flatMap((known) => {
      const current = this.#current(known)
      const { endpoint, label: credential } = known
      if (current === undefined) return []
      const { limit, remaining, source } = current
      return [{ endpoint, credential, limit, remaining, source }]
    })
  }

  #of(endpoint: Asked, credential: Credential): Known {
    const key = keyOf(endpoint.host, credential)
    const found = this.#known.get(key)
    if (found !== undefined) return found
    const known: Known = {
      endpoint: endpoint.key,
      host: endpoint.host,
      label: labelOf(credential),
      waits: {},
      guessed: new Set(),
      refusals: 0,
    }
    this.#known.set(key, known)
    const here = this.#byHost.get(known.host) ?? new Set()
    this.#byHost.set(known.host, here.add(known))
    return known
  }

  #forget(known: Known): void {
    const here = this.#byHost.get(known.host)
    here?.delete(known)
    if (here?.size === 0) this.#byHost.delete(known.host)
  }

  /** Returns what is known of the host's credentials. */
  #at(host: string): Known[] {
    return [...(this.#byHost.get(host) ?? [])]
  }

  #current({ limit }: Known): RateLimit | undefined {
    return limit !== undefined && limit.untilMs > this.#now() ? limit : undefined
  }

  #isWaiting(waits: Known['waits']): boolean {
    return Math.max(waits.content ?? 0, waits.metadata ?? 0) > this.#now()
  }
}

function keyOf(host: string, credential: Credential): string {
  return `${host} ${fingerprintOf(credential)}`
}

/**
 * Stable over restarts, and without the user's name: more people read metrics than the
 * configuration.
 */
function labelOf(credential: Credential): string {
  if (credential.kind === 'anonymous') return 'anonymous'
  const { username = '' } = credential
  const hash = createHash('sha256').update(username).digest('hex').slice(0, 8)
  return username === '' ? credential.kind : `user-${hash}`
}
