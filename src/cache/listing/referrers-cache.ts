// What refers to a manifest (signatures, SBOMs): the upstream's referrers API, else the fallback tag
// (OCI distribution spec, "Unavailable Referrers API"), else what was last known. Unfiltered.
import { LRUCache } from 'lru-cache'
import type { CacheOutcome } from '../../http/cache-status.ts'
import type { Descriptor } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import { OciError } from '../../oci/errors.ts'
import { isIndexType } from '../../oci/media-types.ts'
import { readManifest } from '../../oci/manifest.ts'
import { referrersTag, type Repository } from '../../oci/reference.ts'
import type { Referrers } from '../../store/records/referrers.ts'
import { failureAt, isPaused, type Failure } from '../policy/backoff.ts'
import type { Budgets } from '../policy/budgets.ts'
import { type Caller, sharedKey } from '../flight/caller.ts'
import { Coalescer } from '../flight/coalescer.ts'
import type { Asked } from '../policy/failure-table.ts'
import { decideOn, faultIn, toClientError } from '../policy/failure.ts'
import { freshnessAt, mayProlong, mayServeStale, ttlSeconds } from '../policy/freshness.ts'
import type { FreshnessPolicy, FreshnessSettings } from '../policy/freshness.ts'
import type { Grants } from '../access/grants.ts'
import type { ManifestCache } from '../manifest/manifest-cache.ts'
import type { CacheObserver, StaleReason } from '../observer.ts'
import { askPatiently, within } from '../flight/patience.ts'
import type { WriteBehind } from '../flight/write-behind.ts'
import type { UpstreamFace } from '../../upstream/face/requester.ts'

export interface ReferrersCacheOptions {
  readonly upstream: Pick<UpstreamFace, 'referrers'> & Budgets
  readonly manifests: Pick<ManifestCache, 'get'>
  readonly referrers: Pick<Referrers, 'get' | 'put'>
  readonly grants: Pick<Grants, 'find'>
  readonly freshness: FreshnessPolicy
  readonly writes: WriteBehind
  readonly observer: Pick<CacheObserver, 'staleServed' | 'storeError' | 'unexpectedError'>
  readonly maxDescriptors?: number
  readonly now?: () => number
}

export interface ReferrersList {
  readonly manifests: Descriptor[]
  readonly cache: CacheOutcome
}

/** A list in memory. */
interface Known {
  readonly manifests: Descriptor[]
  readonly checkedAt: number
  readonly failure?: Failure
}

/** What the upstream said just now. */
interface Answer {
  readonly manifests: Descriptor[]
  /** The fallback tag was no longer fresh and the upstream could not be asked: why. */
  readonly stale?: string
}

interface Subject {
  readonly repo: Repository
  readonly digest: Digest
  readonly key: string
  readonly settings: FreshnessSettings
}

export class ReferrersCache {
  readonly #options: ReferrersCacheOptions
  readonly #now: () => number
  readonly #memory: LRUCache<string, Known>
  readonly #flights: Coalescer<Answer>

  constructor(options: ReferrersCacheOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#flights = new Coalescer(this.#now)
    this.#memory = new LRUCache({
      maxSize: options.maxDescriptors ?? 50_000,
      sizeCalculation: ({ manifests }) => manifests.length + 1,
    })
  }

  /** Every referrer of `digest`; the server filters by artifactType. Throws OciError. */
  async list(repo: Repository, digest: Digest, caller: Caller): Promise<ReferrersList> {
    const settings = this.#options.freshness.settingsFor(repo, referrersTag(digest))
    const subject: Subject = {
      repo,
      digest,
      key: `${repo.registry}/${repo.name}@${digest}`,
      settings,
    }
    const known = this.#memory.get(subject.key) ?? (await this.#load(subject))
    const now = this.#now()
    if (known && freshnessAt(known.checkedAt, settings, now) === 'fresh') {
      return this.#serve(subject, known, { state: 'hit' })
    }
    if (known && this.#isProlonged(subject, known, now)) {
      return this.#stale(subject, known, 'budget-low')
    }
    try {
      if (known && isPaused(known.failure, now)) throw known.failure.error
      return await this.#asked(subject, caller, known)
    } catch (error) {
      return this.#afterFailure(subject, known, error)
    }
  }

  /** What failed may work now: the upstream is asked again by the next who wants something. */
  forgetFailures(): void {
    const failed = [...this.#memory.entries()].filter(([, { failure }]) => failure !== undefined)
    for (const [key, { failure: _, ...known }] of failed) this.#memory.set(key, known)
  }

  async #asked(subject: Subject, caller: Caller, known: Known | undefined): Promise<ReferrersList> {
    const { settings } = subject
    const key = sharedKey(subject.key, caller)
    const flight = this.#flights.run(key, () => this.#refresh(subject, caller, known))
    const now = this.#now()
    const leftMs = settings.revalidateTimeoutMs - Math.max(0, now - flight.startedAt)
    const usable = known && mayServeStale(known.checkedAt, settings, 'revalidating', now)
    const answer = await (usable ? within(flight.promise, leftMs) : flight.promise)
    if (known && answer === undefined) return this.#stale(subject, known, 'revalidating')
    const { manifests, stale } = answer ?? { manifests: [] }
    if (stale) return { manifests, cache: { state: 'stale', detail: stale } }
    const state = known ? 'expired' : flight.joined ? 'collapsed' : 'miss'
    return { manifests, cache: { state, fwdStatus: 200, stored: !flight.joined } }
  }

  async #refresh(subject: Subject, caller: Caller, known: Known | undefined): Promise<Answer> {
    const { key, settings } = subject
    try {
      return await askPatiently(
        () => this.#ask(subject, caller, known),
        (error, waitedMs) => decideOn(error, { ...this.#askedFor(subject, known), waitedMs }),
      )
    } catch (error) {
      const failure = failureAt(error, settings.ttlMs, this.#now())
      if (known) this.#memory.set(key, { ...known, failure })
      throw error
    }
  }

  async #ask(subject: Subject, caller: Caller, known: Known | undefined): Promise<Answer> {
    const { repo, digest } = subject
    const at = this.#now()
    const listed: Answer | undefined = await this.#options.upstream.referrers(repo, digest, caller)
    const answer = listed ?? (await this.#fallback(subject, caller, known))
    if (!answer.stale)
      await this.#keep(subject, { manifests: answer.manifests, checkedAt: at }, known)
    return answer
  }

  /**
   * No tag, or something else than an index there, means that nothing refers to the digest; but where
   * something did, that the upstream has lost it, as with a tag that is gone.
   */
  async #fallback(subject: Subject, caller: Caller, known: Known | undefined): Promise<Answer> {
    const { repo, digest } = subject
    const index = this.#options.manifests.get(repo, referrersTag(digest), caller)
    const found = await index.catch((error: unknown) => {
      const isGone = error instanceof OciError && error.status === 404
      if (!isGone || this.#isLost(subject, known)) throw error
      return undefined
    })
    const summary = found?.bytes && readManifest(found.bytes, found.mediaType)
    if (!found || !summary || !isIndexType(summary.mediaType)) return { manifests: [] }
    const manifests = [...summary.children, ...summary.blobs]
    return found.cache.state === 'stale'
      ? { manifests, stale: found.cache.detail ?? '' }
      : { manifests }
  }

  #isLost({ settings }: Subject, known: Known | undefined): boolean {
    if (known === undefined || known.manifests.length === 0) return false
    return mayServeStale(known.checkedAt, settings, 'upstream-gone', this.#now())
  }

  /**
   * An empty list is worth a file only for a manifest that is held, or where there was one before:
   * anybody can ask for the referrers of any digest.
   */
  async #keep(subject: Subject, list: Known, before: Known | undefined): Promise<void> {
    const { repo, digest, key } = subject
    const { referrers, grants, writes } = this.#options
    this.#memory.set(key, list)
    const worthKeeping =
      list.manifests.length > 0 ||
      before !== undefined ||
      (await grants.find(repo, 'manifest', digest)) !== undefined
    if (worthKeeping) {
      writes.push(`referrers ${key}`, 'write referrers', () => referrers.put(repo, digest, list))
    }
  }

  async #load({ repo, digest, key }: Subject): Promise<Known | undefined> {
    try {
      const entry = await this.#options.referrers.get(repo, digest)
      const newer = this.#memory.get(key)
      if (newer !== undefined || entry === undefined) return newer
      this.#memory.set(key, entry)
      return entry
    } catch (error) {
      this.#options.observer.storeError('read referrers', error)
      return this.#memory.get(key)
    }
  }

  #afterFailure(subject: Subject, known: Known | undefined, error: unknown): ReferrersList {
    const fault = faultIn(error)
    if (fault !== undefined) this.#options.observer.unexpectedError('list referrers', fault)
    const decision = decideOn(error, this.#askedFor(subject, known))
    if (known && decision.act === 'serve') return this.#stale(subject, known, decision.detail)
    throw toClientError(error, 'referrers')
  }

  #askedFor({ settings }: Subject, known: Known | undefined): Asked {
    const held = known && { checkedAt: known.checkedAt, settings, now: this.#now() }
    return { what: 'referrers', held }
  }

  #isProlonged({ repo, settings }: Subject, known: Known, now: number): boolean {
    const low = this.#options.upstream.budget?.(repo)?.low === true
    return low && mayProlong(known.checkedAt, settings, now)
  }

  #stale(subject: Subject, known: Known, reason: StaleReason): ReferrersList {
    this.#options.observer.staleServed(reason)
    return this.#serve(subject, known, { state: 'stale', detail: reason })
  }

  #serve({ settings }: Subject, known: Known, outcome: CacheOutcome): ReferrersList {
    const ttl = ttlSeconds(known.checkedAt, settings.ttlMs, this.#now())
    return { manifests: known.manifests, cache: { ...outcome, ttlSeconds: ttl } }
  }
}
