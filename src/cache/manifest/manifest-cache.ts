// Serves manifests by tag or digest: from memory, from the store or from the upstream, in that order.
// What a tag points to is found in tag-resolver.ts; who may read is decided in access.ts.
import { ageSeconds } from '../../http/age.ts'
import type { CacheOutcome } from '../../http/cache-status.ts'
import { parseDigest, type Digest } from '../../oci/digest.ts'
import { OciError } from '../../oci/errors.ts'
import { isManifestType, isSchema1Type } from '../../oci/media-types.ts'
import { isTag, type Repository } from '../../oci/reference.ts'
import type { Requester } from '../../upstream/face/requester.ts'
import type { Link } from '../../store/records/links.ts'
import { UpstreamError } from '../../upstream/face/failure.ts'
import type { Access } from '../access/access.ts'
import type { Flight } from '../flight/coalescer.ts'
import { reportFault, toClientError } from '../policy/failure.ts'
import type { FreshnessPolicy } from '../policy/freshness.ts'
import type { HeldManifest, HeldManifests } from './held-manifests.ts'
import type { ManifestIntake } from './intake.ts'
import type { NegativeCache } from '../policy/negative-cache.ts'
import type { CacheObserver } from '../observer.ts'
import { passedThrough, type ServedManifest } from './served-manifest.ts'
import type { TagResolver } from './tag-resolver.ts'
import type { FetchedManifest, ManifestHead } from '../../upstream/face/answers.ts'

export type { ServedManifest } from './served-manifest.ts'

export interface ManifestCacheOptions {
  readonly resolver: Pick<TagResolver, 'resolve'>
  readonly held: HeldManifests
  readonly intake: ManifestIntake
  readonly access: Access
  readonly freshness: () => FreshnessPolicy
  readonly negative: NegativeCache
  readonly observer: Pick<CacheObserver, 'unexpectedError'>
  readonly now?: () => number
}

export class ManifestCache {
  readonly #options: ManifestCacheOptions
  readonly #now: () => number

  constructor(options: ManifestCacheOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /** Returns the manifest with its bytes. Throws OciError. */
  async get(repo: Repository, reference: string, requester: Requester): Promise<ServedManifest> {
    const digest = digestIn(reference)
    try {
      return digest === undefined
        ? await this.#getTag(repo, reference, requester)
        : await this.#getDigest(repo, digest, requester)
    } catch (error) {
      throw this.#clientError('get manifest', error)
    }
  }

  /** As `get`, but never fetches the bytes. */
  async head(repo: Repository, reference: string, requester: Requester): Promise<ServedManifest> {
    const digest = digestIn(reference)
    try {
      if (digest === undefined) {
        return await this.#options.resolver.resolve(repo, reference, requester, 'head')
      }
      return (
        (await this.#heldAt(repo, digest, requester)) ??
        (await this.#headDigest(repo, digest, requester))
      )
    } catch (error) {
      throw this.#clientError('head manifest', error)
    }
  }

  async #getTag(repo: Repository, tag: string, requester: Requester): Promise<ServedManifest> {
    const { held, resolver } = this.#options
    const resolved = await resolver.resolve(repo, tag, requester, 'get')
    if (resolved.bytes !== undefined) return resolved
    const hot = held.peek(resolved.digest)
    if (hot !== undefined) held.noteUse(resolved.digest)
    const bytes = hot?.bytes ?? (await this.#recalled(repo, resolved.digest))
    if (bytes !== undefined) return { ...resolved, size: bytes.length, bytes }
    const fetched = await this.#fetch(repo, resolved.digest, requester)
    // How the tag was resolved stays true, but a hit without the content was not one.
    return resolved.cache.state === 'hit' ? fetched : { ...fetched, cache: resolved.cache }
  }

  /** Returns the bytes from the store, and recalls what they grant: a tag of `repo` points to them. */
  async #recalled(repo: Repository, digest: Digest): Promise<Buffer | undefined> {
    const { held, intake, access } = this.#options
    const found = await held.get(digest)
    if (found === undefined) return undefined
    const link = await access.named(repo, 'manifest', digest)
    if (link !== undefined) intake.recall(repo, found, link)
    return found.bytes
  }

  async #getDigest(
    repo: Repository,
    digest: Digest,
    requester: Requester,
  ): Promise<ServedManifest> {
    return (await this.#heldAt(repo, digest, requester)) ?? this.#fetch(repo, digest, requester)
  }

  /** Returns what is held if the requester may read it, undefined if nothing is. Throws OciError. */
  async #heldAt(
    repo: Repository,
    digest: Digest,
    requester: Requester,
  ): Promise<ServedManifest | undefined> {
    const { held, access, intake } = this.#options
    const hot = held.peek(digest)
    const known = hot && access.peek(repo, 'manifest', digest)
    if (hot && known) {
      held.noteUse(digest)
      return served(digest, hot, known, this.#hit(known))
    }
    const found = await held.get(digest)
    if (found === undefined) return undefined
    const link = await access.find(repo, 'manifest', digest)
    const proof = link ?? (await access.prove(repo, 'manifest', digest, requester))
    intake.recall(repo, found, proof)
    if (link !== undefined) return served(digest, found, link, this.#hit(link))
    const cache: CacheOutcome = { state: 'revalidated', fwdStatus: 200, detail: 'access-checked' }
    return served(digest, found, proof, cache)
  }

  /** Content by digest does not change: it has an age, but no ttl. */
  #hit({ at }: Link): CacheOutcome {
    return { state: 'hit', ageSeconds: ageSeconds(at, this.#now()) }
  }

  #fetch(repo: Repository, digest: Digest, requester: Requester): Promise<ServedManifest> {
    return this.#fromUpstream(repo, digest, () =>
      this.#options.intake.fetch(repo, digest, requester),
    )
  }

  #headDigest(repo: Repository, digest: Digest, requester: Requester): Promise<ServedManifest> {
    return this.#fromUpstream(repo, digest, () =>
      this.#options.intake.head(repo, digest, requester),
    )
  }

  async #fromUpstream(
    repo: Repository,
    digest: Digest,
    ask: () => Flight<FetchedManifest | ManifestHead>,
  ): Promise<ServedManifest> {
    const { negative, freshness } = this.#options
    const key = `${repo.registry}/${repo.name}@${digest}`
    const gone = negative.get(key)
    if (gone !== undefined) throw gone
    try {
      const flight = ask()
      const found = await flight.promise
      if (found.digest !== digest) throw otherDigest(digest, found)
      return arrived(found, flight.joined)
    } catch (error) {
      negative.remember(key, error, freshness().defaults.negativeTtlMs)
      throw error
    }
  }

  #clientError(operation: string, error: unknown): OciError {
    reportFault(error, operation, this.#options.observer)
    return toClientError(error, 'manifest')
  }
}

/** Returns the digest, or undefined for a tag. A reference that is neither is the client's error. */
function digestIn(reference: string): Digest | undefined {
  const digest = parseDigest(reference)
  if (digest !== undefined || isTag(reference)) return digest
  if (reference.includes(':')) throw new OciError('DIGEST_INVALID')
  // 404 and not 400: the conformance suite asks for an illegal tag and expects "unknown".
  throw new OciError('MANIFEST_UNKNOWN', 'no such manifest: the reference is not a valid tag')
}

/** Serves what is held, with the type by which the repository knows it if that is a manifest's. */
function served(
  digest: Digest,
  { bytes, mediaType }: HeldManifest,
  link: Link,
  cache: CacheOutcome,
): ServedManifest {
  const own = link.mediaType
  const type = own !== undefined && isManifestType(own) ? own : mediaType
  return { digest, mediaType: type, size: bytes.length, bytes, cache }
}

function arrived(found: FetchedManifest | ManifestHead, joined: boolean): ServedManifest {
  if (isSchema1Type(found.mediaType)) return passedThrough(found)
  const { digest, mediaType } = found
  const state = joined ? 'collapsed' : 'miss'
  if (!('bytes' in found)) {
    return { digest, mediaType, size: found.size, cache: { state, fwdStatus: 200 } }
  }
  const { bytes } = found
  const cache: CacheOutcome = { state, fwdStatus: 200, stored: !joined }
  return { digest, mediaType, size: bytes.length, bytes, cache }
}

function otherDigest(digest: Digest, found: { digest: Digest; endpoint: string }): UpstreamError {
  const { endpoint } = found
  const message = `${endpoint} answered a request for ${digest} with ${found.digest}`
  return new UpstreamError('wrong-digest', message, { endpoint })
}
