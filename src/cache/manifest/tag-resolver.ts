// A tag to what it points at: what is known, how fresh that is, and when and how the upstream is
// asked. One piece of work per tag, whoever waits for it; it goes on when nobody does.
import type { CacheOutcome } from '../../http/cache-status.ts'
import { isSchema1Type } from '../../oci/media-types.ts'
import type { Repository } from '../../oci/reference.ts'
import type { TagEntry } from '../../store/records/tags.ts'
import { failureAt, isPaused } from '../policy/backoff.ts'
import type { Budgets } from '../policy/budgets.ts'
import { type Caller, sharedKey } from '../flight/caller.ts'
import { Coalescer, type Flight } from '../flight/coalescer.ts'
import type { Decision, HeldAnswer } from '../policy/failure-table.ts'
import { decideOn, faultIn } from '../policy/failure.ts'
import { freshnessAt, mayProlong, mayServeStale, ttlSeconds } from '../policy/freshness.ts'
import type { FreshnessPolicy } from '../policy/freshness.ts'
import type { HeldManifests } from './held-manifests.ts'
import type { ManifestIntake } from './intake.ts'
import type { NegativeCache } from '../policy/negative-cache.ts'
import type { CacheObserver, StaleReason } from '../observer.ts'
import { askPatiently, within } from '../flight/patience.ts'
import { passedThrough, type ServedManifest } from './served-manifest.ts'
import { tagKeyOf, type TagCache, type TagRecord } from './tag-cache.ts'
import type { FetchedManifest, ManifestHead } from '../../upstream/face/answers.ts'

export interface TagResolverOptions {
  readonly tags: TagCache
  readonly held: HeldManifests
  readonly intake: ManifestIntake
  readonly freshness: FreshnessPolicy
  readonly negative: NegativeCache
  readonly upstream: Budgets
  readonly observer: Pick<CacheObserver, 'staleServed' | 'unexpectedError'>
  readonly now?: () => number
}

type Want = 'head' | 'get'

export class TagResolver {
  readonly #options: TagResolverOptions
  readonly #now: () => number
  readonly #flights: Coalescer<ServedManifest>

  constructor(options: TagResolverOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#flights = new Coalescer(this.#now)
  }

  /**
   * What the tag points at. With 'get' the bytes come along where the upstream was asked for them;
   * else they are held, or to be fetched by digest. Throws what the upstream threw.
   */
  async resolve(
    repo: Repository,
    tag: string,
    caller: Caller,
    want: Want,
  ): Promise<ServedManifest> {
    const record = await this.#known(repo, tag)
    if (record === undefined) return this.#cold(repo, tag, caller, want)
    const now = this.#now()
    const freshness = freshnessAt(record.entry.checkedAt, record.settings, now)
    if (freshness === 'fresh') return this.#serve(record, { state: 'hit' })
    if (freshness === 'expired') return this.#expired(repo, tag, caller, record, want)
    if (isPaused(record.failure, now)) return this.#afterFailure(record, record.failure.error)
    if (this.#isProlonged(repo, record, now)) return this.#stale(record, 'budget-low')
    this.#revalidate(repo, tag, caller, record)
    return this.#stale(record, 'revalidating')
  }

  async #known(repo: Repository, tag: string): Promise<TagRecord | undefined> {
    const record = this.#options.tags.peek(repo, tag)
    if (record !== undefined) return record
    const gone = this.#options.negative.get(tagKeyOf(repo, tag))
    if (gone !== undefined) throw gone
    return this.#options.tags.load(repo, tag)
  }

  async #cold(repo: Repository, tag: string, caller: Caller, want: Want): Promise<ServedManifest> {
    const key = tagKeyOf(repo, tag)
    const flight = this.#flights.run(sharedKey(key, caller), async () => {
      // Work that ended while this request read the store has left nothing to ask for.
      const record = this.#options.tags.peek(repo, tag)
      if (record && freshnessAt(record.entry.checkedAt, record.settings, this.#now()) === 'fresh')
        return this.#serve(record, { state: 'hit' })
      try {
        return await askPatiently(
          () => this.#askCold(repo, tag, caller, want),
          (error, waitedMs) => decideOn(error, { what: 'manifest', waitedMs }),
        )
      } catch (error) {
        const { negativeTtlMs } = this.#options.freshness.settingsFor(repo, tag)
        this.#options.negative.remember(key, error, negativeTtlMs)
        throw error
      }
    })
    const served = await flight.promise
    if (!flight.joined || served.cache.state !== 'miss') return served
    return { ...served, cache: { state: 'collapsed', fwdStatus: 200 } }
  }

  async #askCold(
    repo: Repository,
    tag: string,
    caller: Caller,
    want: Want,
  ): Promise<ServedManifest> {
    const { intake } = this.#options
    const at = this.#now()
    const found =
      want === 'get'
        ? await intake.askGet(repo, tag, caller)
        : await intake.askHead(repo, tag, caller)
    if (isSchema1Type(found.mediaType)) return passedThrough(found)
    const stored = 'bytes' in found
    if (stored) intake.keep(repo, found)
    else intake.link(repo, found)
    const record = this.#options.tags.put(repo, tag, entryOf(found, at))
    const served = this.#serve(record, { state: 'miss', fwdStatus: 200, stored })
    return stored ? { ...served, bytes: found.bytes } : served
  }

  async #expired(
    repo: Repository,
    tag: string,
    caller: Caller,
    record: TagRecord,
    want: Want,
  ): Promise<ServedManifest> {
    const { held } = this.#options
    const answerable = want === 'head' || (await held.get(record.entry.digest)) !== undefined
    const now = this.#now()
    // Only what is held can wait: without it, the client has nothing from a pause.
    if (answerable && isPaused(record.failure, now)) {
      return this.#afterFailure(record, record.failure.error)
    }
    if (answerable && this.#isProlonged(repo, record, now)) {
      return this.#stale(record, 'budget-low')
    }
    const flight = this.#revalidate(repo, tag, caller, record)
    if (!answerable) return flight.promise
    const { entry, settings } = record
    try {
      // Too old to be served for a failure is too old to be served for slowness.
      if (!mayServeStale(entry.checkedAt, settings, 'revalidating', now))
        return await flight.promise
      const waitedMs = Math.max(0, now - flight.startedAt)
      const served = await within(flight.promise, settings.revalidateTimeoutMs - waitedMs)
      return served ?? this.#stale(record, 'revalidating')
    } catch (error) {
      return this.#afterFailure(record, error)
    }
  }

  /** Asks the upstream whether the tag still points there; nobody has to wait for it. */
  #revalidate(
    repo: Repository,
    tag: string,
    caller: Caller,
    record: TagRecord,
  ): Flight<ServedManifest> {
    return this.#flights.run(sharedKey(tagKeyOf(repo, tag), caller), async () => {
      try {
        return await askPatiently(
          () => this.#ask(repo, tag, caller, record),
          (error, waitedMs) => this.#judge(record, error, waitedMs),
        )
      } catch (error) {
        // Nobody may be waiting any more, and who does may be served what is held.
        const fault = faultIn(error)
        if (fault !== undefined) this.#options.observer.unexpectedError('revalidate tag', fault)
        const failure = failureAt(error, record.settings.ttlMs, this.#now())
        this.#options.tags.fail(repo, tag, failure)
        throw error
      }
    })
  }

  async #ask(
    repo: Repository,
    tag: string,
    caller: Caller,
    record: TagRecord,
  ): Promise<ServedManifest> {
    const { intake, tags } = this.#options
    const at = this.#now()
    const head = await intake.askHead(repo, tag, caller)
    if (isSchema1Type(head.mediaType)) return passedThrough(head)
    const moved = head.digest !== record.entry.digest
    await this.#takeIn(repo, caller, record.entry, head)
    const renewed = tags.put(repo, tag, entryOf(head, at))
    const outcome: CacheOutcome = moved
      ? { state: 'expired', fwdStatus: 200, stored: true }
      : { state: 'revalidated', fwdStatus: 200 }
    return this.#serve(renewed, outcome)
  }

  /**
   * Has what the tag points at now. A tag whose content is held never moves to content that is
   * not: it would be lost to all when the upstream fails before somebody asks for the new one.
   */
  async #takeIn(
    repo: Repository,
    caller: Caller,
    before: TagEntry,
    head: ManifestHead | FetchedManifest,
  ): Promise<void> {
    const { held, intake } = this.#options
    if ('bytes' in head) {
      intake.keep(repo, head)
    } else if (head.digest === before.digest || (await held.get(head.digest)) !== undefined) {
      intake.link(repo, head)
    } else if ((await held.get(before.digest)) !== undefined) {
      await intake.fetch(repo, head.digest, caller).promise
    } else {
      intake.link(repo, head)
    }
  }

  /** Without the content there is nothing to serve meanwhile. */
  async #judge(record: TagRecord, error: unknown, waitedMs: number): Promise<Decision> {
    const found = await this.#options.held.get(record.entry.digest)
    const held = found && this.#answer(record)
    return decideOn(error, { what: 'manifest', held, waitedMs })
  }

  #afterFailure(record: TagRecord, error: unknown): ServedManifest {
    const decision = decideOn(error, { what: 'manifest', held: this.#answer(record) })
    if (decision.act !== 'serve') throw error
    return this.#stale(record, decision.detail, decision.fwdStatus)
  }

  #answer({ entry, settings }: TagRecord): HeldAnswer {
    const { checkedAt, grantedBy } = entry
    return { checkedAt, settings, grantedBy, now: this.#now() }
  }

  #isProlonged(repo: Repository, { entry, settings }: TagRecord, now: number): boolean {
    const low = this.#options.upstream.budget?.(repo)?.low === true
    return low && mayProlong(entry.checkedAt, settings, now)
  }

  #stale(record: TagRecord, reason: StaleReason, fwdStatus?: number): ServedManifest {
    this.#options.observer.staleServed(reason)
    const outcome: CacheOutcome = { state: 'stale', detail: reason }
    return this.#serve(record, fwdStatus === undefined ? outcome : { ...outcome, fwdStatus })
  }

  #serve({ entry, settings }: TagRecord, outcome: CacheOutcome): ServedManifest {
    const { digest, mediaType, size, checkedAt } = entry
    const ttl = ttlSeconds(checkedAt, settings.ttlMs, this.#now())
    return { digest, mediaType, size, cache: { ...outcome, ttlSeconds: ttl } }
  }
}

function entryOf(found: ManifestHead | FetchedManifest, checkedAt: number): TagEntry {
  const { digest, mediaType, grantedBy } = found
  const size = 'bytes' in found ? found.bytes.length : found.size
  return { digest, mediaType, size, checkedAt, grantedBy }
}
