// Finds the manifest that a tag points to. When the upstream is asked is decided in revalidation.ts;
// how a tag is kept and how its answer is taken in is here.
import type { CacheOutcome } from '../../http/cache-status.ts'
import { isSchema1Type } from '../../oci/media-types.ts'
import type { Repository } from '../../oci/reference.ts'
import type { TagEntry, Tags } from '../../store/records/tags.ts'
import type { FetchedManifest, ManifestHead } from '../../upstream/face/answers.ts'
import type { Requester, UpstreamFace } from '../../upstream/face/requester.ts'
import { RecordCache } from '../flight/record-cache.ts'
import type { WriteBehind } from '../flight/write-behind.ts'
import type { CacheObserver } from '../observer.ts'
import type { FreshnessPolicy } from '../policy/freshness.ts'
import type { NegativeCache } from '../policy/negative-cache.ts'
import { type Fetched, type Held, type Resource, Revalidation } from '../policy/revalidation.ts'
import type { HeldManifests } from './held-manifests.ts'
import type { ManifestIntake } from './intake.ts'
import { passedThrough, type ServedManifest } from './served-manifest.ts'

export interface TagResolverOptions {
  readonly tags: Pick<Tags, 'get' | 'put'>
  readonly held: HeldManifests
  readonly intake: ManifestIntake
  readonly freshness: () => FreshnessPolicy
  readonly negative: NegativeCache
  readonly upstream: Pick<UpstreamFace, 'budget'>
  readonly writes: WriteBehind
  readonly observer: Pick<CacheObserver, 'staleServed' | 'storeError' | 'unexpectedError'>
  readonly now?: () => number
}

type Want = 'head' | 'get'

/** What a tag points to; with the bytes if they have just been fetched. */
type Target = Omit<ServedManifest, 'cache'>

interface Tag extends Resource {
  readonly name: string
  readonly want: Want
}

const MAX_TAGS = 50_000

export class TagResolver {
  readonly #options: TagResolverOptions
  readonly #now: () => number
  readonly #records: RecordCache<TagEntry>
  readonly #revalidation: Revalidation<Tag, Target>

  constructor(options: TagResolverOptions) {
    const { writes, observer, held, now = Date.now } = options
    this.#options = options
    this.#now = now
    this.#records = new RecordCache({ name: 'tag', writes, observer, capacity: MAX_TAGS })
    this.#revalidation = new Revalidation<Tag, Target>(
      {
        peek: (tag) => heldAs(this.#records.peek(tag.key)),
        load: async (tag) => heldAs(await this.#load(tag)),
        fetch: (tag, before, requester) =>
          before === undefined
            ? this.#fetch(tag, requester)
            : this.#revalidate(tag, before, requester),
        hasContent: async ({ value }) => (await held.get(value.digest)) !== undefined,
      },
      { ...options, what: 'manifest', operation: 'revalidate tag' },
    )
  }

  /**
   * Returns what the tag points to. With 'get', the bytes come along if the upstream was asked for
   * them; otherwise they are held, or have to be fetched by digest. Throws what the upstream threw.
   */
  async resolve(
    repo: Repository,
    name: string,
    requester: Requester,
    want: Want,
  ): Promise<ServedManifest> {
    const key = `${repo.registry}/${repo.name}:${name}` // a name holds no colon, so keys are unique
    const settings = this.#options.freshness().settingsFor(repo, name)
    const tag: Tag = { repo, name, want, key, settings, needsNoContent: want === 'head' }
    const { value, cache } = await this.#revalidation.get(tag, requester)
    return { ...value, cache }
  }

  /** Lets the upstream be asked again about tags that it failed at. */
  forgetFailures(): void {
    this.#revalidation.forgetFailures()
  }

  #load({ repo, name, key }: Tag): Promise<TagEntry | undefined> {
    return this.#records.load(key, () => this.#options.tags.get(repo, name))
  }

  #put({ repo, name, key }: Tag, entry: TagEntry): void {
    this.#records.put(key, entry, () => this.#options.tags.put(repo, name, entry))
  }

  /** The first request for a tag. A HEAD costs the upstream a HEAD, so nothing is stored then. */
  async #fetch(tag: Tag, requester: Requester): Promise<Fetched<Target>> {
    const { intake } = this.#options
    const { repo, name, want } = tag
    const at = this.#now()
    const found =
      want === 'get'
        ? await intake.askGet(repo, name, requester)
        : await intake.askHead(repo, name, requester)
    if (isSchema1Type(found.mediaType)) return bypassed(found)
    const stored = 'bytes' in found
    if (stored) intake.keep(repo, found)
    else intake.link(repo, found)
    return this.#record(tag, found, at, { state: 'miss', fwdStatus: 200, stored })
  }

  /** A later request asks with HEAD, which registries do not count towards their limits. */
  async #revalidate(
    tag: Tag,
    before: Held<Target>,
    requester: Requester,
  ): Promise<Fetched<Target>> {
    const at = this.#now()
    const head = await this.#options.intake.askHead(tag.repo, tag.name, requester)
    if (isSchema1Type(head.mediaType)) return bypassed(head)
    const { digest } = before.value
    await this.#takeIn(tag.repo, requester, digest, head)
    const outcome: CacheOutcome =
      head.digest === digest
        ? { state: 'revalidated', fwdStatus: 200 }
        : { state: 'expired', fwdStatus: 200, stored: true }
    return this.#record(tag, head, at, outcome)
  }

  /**
   * Fetches what the tag points to now, if what it pointed to before is held. A tag never moves from
   * content that is held to content that is not: if the upstream failed before anybody asked for the
   * new content, both would be out of reach.
   */
  async #takeIn(
    repo: Repository,
    requester: Requester,
    before: TagEntry['digest'],
    head: ManifestHead | FetchedManifest,
  ): Promise<void> {
    const { held, intake } = this.#options
    if ('bytes' in head) {
      intake.keep(repo, head)
    } else if (head.digest === before || (await held.get(head.digest)) !== undefined) {
      intake.link(repo, head)
    } else if ((await held.get(before)) !== undefined) {
      await intake.fetch(repo, head.digest, requester).promise
    } else {
      intake.link(repo, head)
    }
  }

  #record(
    tag: Tag,
    found: ManifestHead | FetchedManifest,
    checkedAt: number,
    outcome: CacheOutcome,
  ): Fetched<Target> {
    const { digest, mediaType, grantedBy } = found
    const size = 'bytes' in found ? found.bytes.length : found.size
    this.#put(tag, { digest, mediaType, size, checkedAt, grantedBy })
    const target = { digest, mediaType, size }
    const value = 'bytes' in found ? { ...target, bytes: found.bytes } : target
    return { value, checkedAt, grantedBy, outcome }
  }
}

function heldAs(entry: TagEntry | undefined): Held<Target> | undefined {
  if (entry === undefined) return undefined
  const { digest, mediaType, size, checkedAt, grantedBy } = entry
  return { value: { digest, mediaType, size }, checkedAt, grantedBy }
}

/** Schema 1 is neither kept nor remembered: see `passedThrough`. */
function bypassed(found: ManifestHead | FetchedManifest): Fetched<Target> {
  const { cache, ...value } = passedThrough(found)
  return { value, outcome: cache }
}
