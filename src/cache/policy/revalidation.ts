// The loop that serves everything that changes at the upstream: tags, lists of tags and lists of
// referrers (RFC 9111 section 4, RFC 5861). How each of them is kept and fetched is their own.
//
//   nothing held ──► ask; a 404 is remembered for negativeTtl
//   fresh ─────────► serve what is held
//   stale ─────────► the first of these that applies:
//
//     the upstream failed a moment ago ────► let the failure table decide
//     it has few requests left for us ─────► serve what is held
//     within staleWhileRevalidate ─────────► serve what is held, and ask in the background
//     otherwise ask, and then
//       the upstream answers ──────────────► serve the answer
//       revalidateTimeout passes ──────────► serve what is held; the request goes on
//       the request fails ─────────────────► let the failure table decide
//
// However many clients want one resource, one request runs, and they all get its outcome. It belongs
// to none of them: it goes on when they leave.
import { LRUCache } from 'lru-cache'
import { ageSeconds } from '../../http/age.ts'
import type { CacheOutcome } from '../../http/cache-status.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Link } from '../../store/records/links.ts'
import type { Requester, UpstreamFace } from '../../upstream/face/requester.ts'
import { sharedKey } from '../flight/shared-key.ts'
import { Coalescer, type Flight } from '../flight/coalescer.ts'
import { retryRateLimited, within } from '../flight/patience.ts'
import type { CacheObserver, StaleReason } from '../observer.ts'
import { type Failure, failureAt, isPaused } from './backoff.ts'
import { decideOn, reportFault, retryDelayMs } from './failure.ts'
import type { Asked, HeldAnswer, Wanted } from './failure-table.ts'
import {
  type FreshnessSettings,
  freshnessAt,
  mayProlong,
  mayServeStale,
  ttlSeconds,
} from './freshness.ts'
import type { NegativeCache } from './negative-cache.ts'

/** One thing that a request wants. */
export interface Resource {
  readonly repo: Repository
  /** Unique among all resources of all kinds. */
  readonly key: string
  /** The settings in force when the request came in; they hold to its end. */
  readonly settings: FreshnessSettings
  /** The request can be answered with a record whose content is missing, as a HEAD can. */
  readonly needsNoContent?: boolean
}

/** What is held of a resource. */
export interface Held<T> {
  readonly value: T
  /**
   * When the upstream last confirmed it, in milliseconds. Undefined for a substitute that no upstream
   * has given: it counts as just gone stale, and is served only if the upstream gives nothing.
   */
  readonly checkedAt?: number
  readonly grantedBy?: Link['grantedBy']
}

/** What the upstream answered. */
export interface Fetched<T> extends Held<T> {
  readonly outcome: CacheOutcome
}

/** What a client gets. */
export interface Served<T> {
  readonly value: T
  readonly cache: CacheOutcome
}

/** How the resources of one kind are kept and fetched. */
export interface Resources<R extends Resource, T> {
  /** Returns what is held in memory. */
  peek(resource: R): Held<T> | undefined
  /** Returns what is held in the store. Never throws. */
  load(resource: R): Promise<Held<T> | undefined>
  /** Asks the upstream and keeps its answer. `held` is what it may confirm. */
  fetch(resource: R, held: Held<T> | undefined, requester: Requester): Promise<Fetched<T>>
  /** Reports whether the content that `held` points to is there. Without it: always. */
  hasContent?(held: Held<T>): Promise<boolean>
}

export interface RevalidationOptions {
  readonly what: Wanted
  /** Names a request behind something held, in reports of unexpected errors. */
  readonly operation: string
  readonly upstream: Pick<UpstreamFace, 'budget'>
  readonly negative: NegativeCache
  readonly observer: Pick<CacheObserver, 'staleServed' | 'unexpectedError'>
  readonly now?: () => number
}

const MAX_FAILURES = 50_000

export class Revalidation<R extends Resource, T> {
  readonly #resources: Resources<R, T>
  readonly #options: RevalidationOptions
  readonly #now: () => number
  readonly #flights: Coalescer<Served<T>>
  /** The last failure of each resource that is held, until an answer comes. */
  readonly #failures = new LRUCache<string, Failure>({ max: MAX_FAILURES })

  constructor(resources: Resources<R, T>, options: RevalidationOptions) {
    this.#resources = resources
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#flights = new Coalescer(this.#now)
  }

  /** Returns what is held or what the upstream says, by the rules above. Throws what `fetch` throws. */
  async get(resource: R, requester: Requester): Promise<Served<T>> {
    const held = this.#resources.peek(resource) ?? (await this.#load(resource))
    if (held === undefined) return await outcomeOf(this.#ask(resource, requester))
    if (this.#isFresh(resource, held)) return this.#serve(resource, held, { state: 'hit' })
    return await this.#getStale(resource, held, requester)
  }

  /** Lets the upstream be asked again about what it failed at: it may be another one by now. */
  forgetFailures(): void {
    this.#failures.clear()
  }

  async #load(resource: R): Promise<Held<T> | undefined> {
    const gone = this.#options.negative.get(resource.key)
    if (gone !== undefined) throw gone
    return await this.#resources.load(resource)
  }

  async #getStale(resource: R, held: Held<T>, requester: Requester): Promise<Served<T>> {
    const isUsable = resource.needsNoContent === true || (await this.#hasContent(held))
    if (!isUsable) return await outcomeOf(this.#ask(resource, requester, held))
    const { key, settings } = resource
    const now = this.#now()
    const failure = this.#failures.get(key)
    if (isPaused(failure, now)) return this.#afterFailure(resource, held, failure.error)
    if (this.#isProlonged(resource, held, now)) return this.#stale(resource, held, 'budget-low')
    const flight = this.#ask(resource, requester, held)
    if (freshnessOf(held, settings, now) === 'stale-while-revalidate') {
      return this.#stale(resource, held, 'revalidating')
    }
    try {
      return (
        (await this.#inTime(resource, held, flight)) ?? this.#stale(resource, held, 'revalidating')
      )
    } catch (error) {
      return this.#afterFailure(resource, held, error)
    }
  }

  /** Joins the request that is running for this resource, or starts one. */
  #ask(resource: R, requester: Requester, known?: Held<T>): Flight<Served<T>> {
    return this.#flights.run(sharedKey(resource.key, requester), async () => {
      // A request that ended while the store was read may have made this one unnecessary.
      const held = this.#resources.peek(resource) ?? known
      if (held !== undefined && this.#isFresh(resource, held)) {
        return this.#serve(resource, held, { state: 'hit' })
      }
      try {
        const fetched = await retryRateLimited(
          () => this.#resources.fetch(resource, held, requester),
          (error, waitedMs) => this.#retryDelayMs(resource, held, error, waitedMs),
        )
        this.#failures.delete(resource.key)
        return this.#serve(resource, fetched, fetched.outcome)
      } catch (error) {
        this.#failed(resource, held, error)
        throw error
      }
    })
  }

  /** Returns the outcome of a request, or undefined if the client should not wait for it any longer. */
  #inTime(resource: R, held: Held<T>, flight: Flight<Served<T>>): Promise<Served<T> | undefined> {
    const { settings } = resource
    const now = this.#now()
    // Too old to be served for a failure is too old to be served for slowness.
    const isServable = mayServeStale(
      checkedAtOf(held, settings, now),
      settings,
      'revalidating',
      now,
    )
    if (!isServable) return outcomeOf(flight)
    const waitedMs = Math.max(0, now - flight.startedAt)
    return within(outcomeOf(flight), settings.revalidateTimeoutMs - waitedMs)
  }

  /** Waiting out a short rate limit is for those who have nothing to be served meanwhile. */
  async #retryDelayMs(
    resource: R,
    held: Held<T> | undefined,
    error: unknown,
    waitedMs: number,
  ): Promise<number | undefined> {
    const usable = held !== undefined && (await this.#hasContent(held)) ? held : undefined
    return retryDelayMs(error, { ...this.#asked(resource, usable), waitedMs })
  }

  #failed({ key, settings }: R, held: Held<T> | undefined, error: unknown): void {
    const { negative, operation, observer } = this.#options
    if (held === undefined) return negative.remember(key, error, settings.negativeTtlMs)
    // Clients may be served what is held, or be gone: a fault would go unnoticed.
    reportFault(error, operation, observer)
    this.#failures.set(key, failureAt(error, settings.ttlMs, this.#now()))
  }

  #afterFailure(resource: R, held: Held<T>, error: unknown): Served<T> {
    const decision = decideOn(error, this.#asked(resource, held))
    if (decision.act !== 'serve') throw error
    return this.#stale(resource, held, decision.detail, decision.fwdStatus)
  }

  #asked({ settings }: R, held: Held<T> | undefined): Asked {
    const { what } = this.#options
    if (held === undefined) return { what }
    const now = this.#now()
    const { grantedBy } = held
    const answer: HeldAnswer = { checkedAt: checkedAtOf(held, settings, now), settings, now }
    return { what, held: grantedBy === undefined ? answer : { ...answer, grantedBy } }
  }

  #hasContent(held: Held<T>): Promise<boolean> | boolean {
    return this.#resources.hasContent?.(held) ?? true
  }

  #isFresh({ settings }: R, held: Held<T>): boolean {
    return freshnessOf(held, settings, this.#now()) === 'fresh'
  }

  #isProlonged({ repo, settings }: R, { checkedAt }: Held<T>, now: number): boolean {
    if (checkedAt === undefined || !mayProlong(checkedAt, settings, now)) return false
    return this.#options.upstream.budget(repo)?.low === true
  }

  #stale(resource: R, held: Held<T>, reason: StaleReason, fwdStatus?: number): Served<T> {
    this.#options.observer.staleServed(reason)
    const outcome: CacheOutcome = { state: 'stale', detail: reason }
    return this.#serve(
      resource,
      held,
      fwdStatus === undefined ? outcome : { ...outcome, fwdStatus },
    )
  }

  #serve({ settings }: R, { value, checkedAt }: Held<T>, outcome: CacheOutcome): Served<T> {
    if (checkedAt === undefined) return { value, cache: outcome }
    const now = this.#now()
    const cache = { ...outcome, ttlSeconds: ttlSeconds(checkedAt, settings.ttlMs, now) }
    const wasAsked = outcome.state !== 'hit' && outcome.state !== 'stale'
    if (wasAsked) return { value, cache }
    return { value, cache: { ...cache, ageSeconds: ageSeconds(checkedAt, now) } }
  }
}

function freshnessOf<T>({ checkedAt }: Held<T>, settings: FreshnessSettings, now: number) {
  return checkedAt === undefined ? 'expired' : freshnessAt(checkedAt, settings, now)
}

function checkedAtOf<T>({ checkedAt }: Held<T>, { ttlMs }: FreshnessSettings, now: number): number {
  return checkedAt ?? now - ttlMs
}

async function outcomeOf<T>({ promise, joined }: Flight<Served<T>>): Promise<Served<T>> {
  const { value, cache } = await promise
  if (!joined || cache.state !== 'miss') return { value, cache }
  const { stored: _, ...rest } = cache
  return { value, cache: { ...rest, state: 'collapsed' } }
}
