// Decides who may read held content. The bytes of a digest are kept once for all repositories, but a
// client of repository R gets them only if R is known to have them: by a link in R, or by one upstream
// HEAD under R. This is not client authentication.
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Link } from '../../store/records/links.ts'
import { sharedKey } from '../flight/shared-key.ts'
import { Coalescer } from '../flight/coalescer.ts'
import { retryDelayMs, toAccessError } from '../policy/failure.ts'
import type { Grants } from './grants.ts'
import { retryRateLimited } from '../flight/patience.ts'
import type { Requester, UpstreamFace } from '../../upstream/face/requester.ts'

export interface AccessOptions {
  readonly upstream: Pick<UpstreamFace, 'headManifest' | 'headBlob'>
  readonly grants: Grants
  readonly now?: () => number
}

export class Access {
  readonly #upstream: Pick<UpstreamFace, 'headManifest' | 'headBlob'>
  readonly #grants: Grants
  readonly #now: () => number
  readonly #proofs: Coalescer<Link>

  constructor(options: AccessOptions) {
    this.#upstream = options.upstream
    this.#grants = options.grants
    this.#now = options.now ?? Date.now
    this.#proofs = new Coalescer(this.#now)
  }

  /** As `find`, but from memory only and at once: undefined may also mean that only `find` knows. */
  peek(repo: Repository, kind: Link['kind'], digest: Digest): Link | undefined {
    const link = this.#grants.peek(repo, kind, digest)
    if (link?.grantedBy === 'imported') return link
    return this.#grants.peekOrigin(repo.registry, kind, digest) ? link : undefined
  }

  /**
   * Returns the link that lets clients of `repo` have the held bytes of `digest`, or undefined if
   * nothing shows that they may: then use `prove`. What a manifest names counts only for content that
   * came from the same registry: otherwise any registry could name a digest that is private elsewhere
   * and have it served.
   */
  async find(repo: Repository, kind: Link['kind'], digest: Digest): Promise<Link | undefined> {
    const link = await this.named(repo, kind, digest)
    if (link === undefined || link.grantedBy === 'imported') return link
    return (await this.#grants.hasOrigin(repo.registry, kind, digest)) ? link : undefined
  }

  /**
   * Returns the link without regard to where the held bytes came from. That is enough to join a
   * download whose sources belong to the same registry, and to learn size and type.
   */
  named(repo: Repository, kind: Link['kind'], digest: Digest): Promise<Link | undefined> {
    return this.#grants.find(repo, kind, digest)
  }

  /**
   * Asks the upstream with one HEAD, shared by all who ask at once, and records success as a link.
   * Throws OciError: 404 and 403 as the upstream said, 503 if it cannot be asked.
   */
  prove(repo: Repository, kind: Link['kind'], digest: Digest, requester: Requester): Promise<Link> {
    const key = sharedKey(`${kind} ${repo.registry}/${repo.name}@${digest}`, requester)
    return this.#proofs.run(key, () => this.#ask(repo, kind, digest, requester)).promise
  }

  async #ask(
    repo: Repository,
    kind: Link['kind'],
    digest: Digest,
    requester: Requester,
  ): Promise<Link> {
    try {
      const link = await retryRateLimited(
        () => this.#head(repo, kind, digest, requester),
        (error, waitedMs) => retryDelayMs(error, { what: kind, onlyAccess: true, waitedMs }),
      )
      this.#grants.recordFetched(repo, digest, link)
      return link
    } catch (error) {
      throw toAccessError(error, kind)
    }
  }

  #head(repo: Repository, kind: Link['kind'], digest: Digest, requester: Requester): Promise<Link> {
    return kind === 'blob'
      ? this.#headBlob(repo, digest, requester)
      : this.#headManifest(repo, digest, requester)
  }

  async #headBlob(repo: Repository, digest: Digest, requester: Requester): Promise<Link> {
    const { size, grantedBy } = await this.#upstream.headBlob(repo, digest, requester)
    const at = this.#now()
    return size === undefined
      ? { kind: 'blob', grantedBy, at }
      : { kind: 'blob', size, grantedBy, at }
  }

  async #headManifest(repo: Repository, digest: Digest, requester: Requester): Promise<Link> {
    const head = await this.#upstream.headManifest(repo, digest, requester)
    const size = 'bytes' in head ? head.bytes.length : head.size
    const { mediaType, grantedBy } = head
    return { kind: 'manifest', mediaType, size, grantedBy, at: this.#now() }
  }
}
