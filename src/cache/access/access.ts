// Who may read held content. The bytes of a digest are kept once for all repositories, but a
// client of repository R is given them only where R is known to have them: by a link in R, or by
// one upstream HEAD under R. Not client authentication: that is policy/.
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

  /** As `find`, from memory alone and at once: undefined may also mean "ask find". */
  peek(repo: Repository, kind: Link['kind'], digest: Digest): Link | undefined {
    const link = this.#grants.peek(repo, kind, digest)
    if (link?.grantedBy === 'imported') return link
    return this.#grants.peekOrigin(repo.registry, kind, digest) ? link : undefined
  }

  /**
   * The link that lets clients of `repo` have the held bytes of `digest`; undefined: nothing shows
   * it yet, so prove it. A manifest's word counts only for content that came from the same
   * registry: another registry could name any digest, and so read what is private elsewhere.
   */
  async find(repo: Repository, kind: Link['kind'], digest: Digest): Promise<Link | undefined> {
    const link = await this.named(repo, kind, digest)
    if (link === undefined || link.grantedBy === 'imported') return link
    return (await this.#grants.hasOrigin(repo.registry, kind, digest)) ? link : undefined
  }

  /**
   * The link alone, wherever the held bytes came from: enough to join a download whose sources are
   * of the same registry, and for what is known about size and type.
   */
  named(repo: Repository, kind: Link['kind'], digest: Digest): Promise<Link | undefined> {
    return this.#grants.find(repo, kind, digest)
  }

  /**
   * One upstream HEAD, shared by all who ask at once; success is recorded as a link. Throws
   * OciError: 404 and 403 as the upstream said, 503 where it cannot be asked.
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
