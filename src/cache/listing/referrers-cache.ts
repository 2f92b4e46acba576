// Lists what refers to a manifest (signatures, SBOMs): from the upstream's referrers API, or from the
// fallback tag (OCI distribution spec, "Unavailable Referrers API"). The lists are not filtered.
import type { CacheOutcome } from '../../http/cache-status.ts'
import type { Descriptor } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import { OciError } from '../../oci/errors.ts'
import { isIndexType } from '../../oci/media-types.ts'
import { readManifest } from '../../oci/manifest.ts'
import { referrersTag, type Repository } from '../../oci/reference.ts'
import type { Referrers, ReferrersEntry } from '../../store/records/referrers.ts'
import type { Requester, UpstreamFace } from '../../upstream/face/requester.ts'
import type { Grants } from '../access/grants.ts'
import { RecordCache } from '../flight/record-cache.ts'
import type { WriteBehind } from '../flight/write-behind.ts'
import type { ManifestCache } from '../manifest/manifest-cache.ts'
import type { CacheObserver } from '../observer.ts'
import { reportFault, toClientError } from '../policy/failure.ts'
import { type FreshnessPolicy, mayServeStale } from '../policy/freshness.ts'
import type { NegativeCache } from '../policy/negative-cache.ts'
import { type Fetched, type Held, type Resource, Revalidation } from '../policy/revalidation.ts'

export interface ReferrersCacheOptions {
  readonly upstream: Pick<UpstreamFace, 'referrers' | 'budget'>
  readonly manifests: Pick<ManifestCache, 'get'>
  readonly referrers: Pick<Referrers, 'get' | 'put'>
  readonly grants: Pick<Grants, 'find'>
  readonly freshness: () => FreshnessPolicy
  readonly negative: NegativeCache
  readonly writes: WriteBehind
  readonly observer: Pick<CacheObserver, 'staleServed' | 'storeError' | 'unexpectedError'>
  readonly now?: () => number
}

export interface ReferrersList {
  readonly manifests: Descriptor[]
  readonly cache: CacheOutcome
}

/** The manifest whose referrers are wanted. */
interface Subject extends Resource {
  readonly digest: Digest
}

/** The most descriptors in memory, over all lists. */
const MAX_DESCRIPTORS = 50_000

export class ReferrersCache {
  readonly #options: ReferrersCacheOptions
  readonly #now: () => number
  readonly #records: RecordCache<ReferrersEntry>
  readonly #revalidation: Revalidation<Subject, Descriptor[]>

  constructor(options: ReferrersCacheOptions) {
    const { writes, observer, now = Date.now } = options
    this.#options = options
    this.#now = now
    this.#records = new RecordCache({
      name: 'referrers',
      writes,
      observer,
      capacity: MAX_DESCRIPTORS,
      weigh: ({ manifests }) => manifests.length + 1,
    })
    this.#revalidation = new Revalidation<Subject, Descriptor[]>(
      {
        peek: ({ key }) => heldAs(this.#records.peek(key)),
        load: async (subject) => heldAs(await this.#load(subject)),
        fetch: (subject, before, requester) => this.#fetch(subject, before, requester),
      },
      { ...options, what: 'referrers', operation: 'revalidate referrers' },
    )
  }

  /** Returns every referrer of `digest`; the server filters by artifactType. Throws OciError. */
  async list(repo: Repository, digest: Digest, requester: Requester): Promise<ReferrersList> {
    const key = `referrers ${repo.registry}/${repo.name}@${digest}`
    // The fallback tag's settings, wherever the list comes from.
    const settings = this.#options.freshness().settingsFor(repo, referrersTag(digest))
    const subject: Subject = { repo, digest, key, settings }
    try {
      const { value: manifests, cache } = await this.#revalidation.get(subject, requester)
      return { manifests, cache }
    } catch (error) {
      reportFault(error, 'list referrers', this.#options.observer)
      throw toClientError(error, 'referrers')
    }
  }

  /** Lets the upstream be asked again about lists that it failed at. */
  forgetFailures(): void {
    this.#revalidation.forgetFailures()
  }

  #load({ repo, digest, key }: Subject): Promise<ReferrersEntry | undefined> {
    return this.#records.load(key, () => this.#options.referrers.get(repo, digest))
  }

  async #fetch(
    subject: Subject,
    before: Held<Descriptor[]> | undefined,
    requester: Requester,
  ): Promise<Fetched<Descriptor[]>> {
    const { repo, digest } = subject
    const askedAt = this.#now()
    const listed = await this.#options.upstream.referrers(repo, digest, requester)
    const { manifests, tag } = listed
      ? { manifests: listed.manifests, tag: undefined }
      : await this.#fallback(subject, before, requester)
    // What the upstream said about the tag some time ago is not what it says about the list now.
    if (tag?.state === 'stale') return { value: manifests, outcome: tag }
    // A list from a tag that is still fresh is as old as that tag.
    const age = tag?.ageSeconds === undefined ? {} : { ageSeconds: tag.ageSeconds }
    const checkedAt = askedAt - (age.ageSeconds ?? 0) * 1000
    await this.#put(subject, { manifests, checkedAt }, before)
    const state = before === undefined ? 'miss' : 'expired'
    return { value: manifests, checkedAt, outcome: { state, fwdStatus: 200, stored: true, ...age } }
  }

  /**
   * Reads the list from the fallback tag. Without the tag, or if it does not point to an index,
   * nothing refers to the digest; but if something did before, the upstream has lost it, as with a
   * tag that is gone. `tag` says how the index was resolved.
   */
  async #fallback(
    subject: Subject,
    before: Held<Descriptor[]> | undefined,
    requester: Requester,
  ): Promise<{ manifests: Descriptor[]; tag?: CacheOutcome | undefined }> {
    const { repo, digest } = subject
    const index = this.#options.manifests.get(repo, referrersTag(digest), requester)
    const found = await index.catch((error: unknown) => {
      const isGone = error instanceof OciError && error.status === 404
      if (!isGone || this.#isLost(subject, before)) throw error
      return undefined
    })
    const summary = found?.bytes && readManifest(found.bytes, found.mediaType)
    if (!found || !summary || !isIndexType(summary.mediaType)) return { manifests: [] }
    return { manifests: [...summary.children, ...summary.blobs], tag: found.cache }
  }

  #isLost({ settings }: Subject, before: Held<Descriptor[]> | undefined): boolean {
    if (before?.checkedAt === undefined || before.value.length === 0) return false
    return mayServeStale(before.checkedAt, settings, 'upstream-gone', this.#now())
  }

  /**
   * Keeps a list. An empty one is worth a file only for a manifest that is held, or if there was a
   * list before: anybody can ask for the referrers of any digest.
   */
  async #put(
    { repo, digest, key }: Subject,
    list: ReferrersEntry,
    before: Held<Descriptor[]> | undefined,
  ): Promise<void> {
    const { referrers, grants } = this.#options
    const isWorthAFile =
      list.manifests.length > 0 ||
      before !== undefined ||
      (await grants.find(repo, 'manifest', digest)) !== undefined
    const write = () => referrers.put(repo, digest, list)
    this.#records.put(key, list, isWorthAFile ? write : undefined)
  }
}

function heldAs(entry: ReferrersEntry | undefined): Held<Descriptor[]> | undefined {
  return entry && { value: entry.manifests, checkedAt: entry.checkedAt }
}
