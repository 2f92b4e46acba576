// Takes in manifests from the upstream: fetches each once per digest and repository, keeps it, and
// records that the repository has it. A store that cannot be written does not matter here: see
// write-behind.ts.
import type { Digest } from '../../oci/digest.ts'
import { isSchema1Type } from '../../oci/media-types.ts'
import { readManifest } from '../../oci/manifest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Link } from '../../store/records/links.ts'
import { sharedKey } from '../flight/shared-key.ts'
import { Coalescer, type Flight } from '../flight/coalescer.ts'
import { retryDelayMs } from '../policy/failure.ts'
import type { Grants } from '../access/grants.ts'
import type { HeldManifest, HeldManifests } from './held-manifests.ts'
import { type RetryPolicy, retryRateLimited } from '../flight/patience.ts'
import type { FetchedManifest, ManifestHead } from '../../upstream/face/answers.ts'
import type { Requester, UpstreamFace } from '../../upstream/face/requester.ts'

export interface ManifestIntakeOptions {
  readonly upstream: Pick<UpstreamFace, 'headManifest' | 'getManifest'>
  readonly held: HeldManifests
  readonly grants: Grants
  readonly now?: () => number
}

export class ManifestIntake {
  readonly #upstream: Pick<UpstreamFace, 'headManifest' | 'getManifest'>
  readonly #held: HeldManifests
  readonly #grants: Grants
  readonly #now: () => number
  readonly #gets: Coalescer<FetchedManifest>
  readonly #heads: Coalescer<ManifestHead | FetchedManifest>

  constructor(options: ManifestIntakeOptions) {
    this.#upstream = options.upstream
    this.#held = options.held
    this.#grants = options.grants
    this.#now = options.now ?? Date.now
    this.#gets = new Coalescer(this.#now)
    this.#heads = new Coalescer(this.#now)
  }

  /** Sends one upstream GET, by tag or digest. Throws what the upstream throws. */
  askGet(repo: Repository, reference: string, requester: Requester): Promise<FetchedManifest> {
    return this.#upstream.getManifest(repo, reference, requester)
  }

  /** Sends one upstream HEAD, by tag or digest. Throws what the upstream throws. */
  askHead(
    repo: Repository,
    reference: string,
    requester: Requester,
  ): Promise<ManifestHead | FetchedManifest> {
    return this.#upstream.headManifest(repo, reference, requester)
  }

  /** Sends one GET by digest for all who want it at once, and keeps the manifest. */
  fetch(repo: Repository, digest: Digest, requester: Requester): Flight<FetchedManifest> {
    return this.#gets.run(keyOf(repo, digest, requester), async () => {
      const fetched = await retryRateLimited(
        () => this.askGet(repo, digest, requester),
        nothingHeld,
      )
      this.keep(repo, fetched)
      return fetched
    })
  }

  /** Sends one HEAD by digest for all who want it at once, or joins a GET that is running anyway. */
  head(
    repo: Repository,
    digest: Digest,
    requester: Requester,
  ): Flight<ManifestHead | FetchedManifest> {
    const key = keyOf(repo, digest, requester)
    if (this.#gets.has(key)) return this.fetch(repo, digest, requester)
    return this.#heads.run(key, async () => {
      const head = await retryRateLimited(() => this.askHead(repo, digest, requester), nothingHeld)
      if ('bytes' in head) this.keep(repo, head)
      else this.link(repo, head)
      return head
    })
  }

  /**
   * Keeps what the upstream gave under `repo`, and records what it grants there. Schema 1 is not kept:
   * its digest is not that of its bytes, so it proves nothing later.
   */
  keep(repo: Repository, fetched: FetchedManifest): void {
    if (isSchema1Type(fetched.mediaType)) return
    const { digest, mediaType, bytes } = fetched
    if (this.#held.peek(digest) === undefined) this.#held.put(digest, { bytes, mediaType })
    this.link(repo, { ...fetched, size: bytes.length })
    const summary = readManifest(bytes, mediaType)
    const { grantedBy } = fetched
    if (summary) this.#grants.recordNamed(repo, summary, { grantedBy, at: this.#now() })
  }

  /** Records that `repo` has this manifest, as the upstream has just shown. */
  link(
    repo: Repository,
    head: Pick<ManifestHead, 'digest' | 'mediaType' | 'size' | 'grantedBy'>,
  ): void {
    const { digest, mediaType, size, grantedBy } = head
    if (isSchema1Type(mediaType)) return
    const link: Link = { kind: 'manifest', mediaType, size, grantedBy, at: this.#now() }
    this.#grants.recordFetched(repo, digest, link)
  }

  /**
   * Puts what a held manifest of `repo` grants into memory. The store may lack it: after a crash between
   * the writes, or on a read-only disk.
   */
  recall(repo: Repository, held: HeldManifest, link: Pick<Link, 'grantedBy' | 'at'>): void {
    const summary = readManifest(held.bytes, held.mediaType)
    if (summary) this.#grants.recordNamed(repo, summary, link, false)
  }
}

const nothingHeld: RetryPolicy = (error, waitedMs) =>
  retryDelayMs(error, { what: 'manifest', waitedMs })

function keyOf(repo: Repository, digest: Digest, requester: Requester): string {
  return sharedKey(`${repo.registry}/${repo.name}@${digest}`, requester)
}
