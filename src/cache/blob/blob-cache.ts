// Opens blobs for clients, from the disk or from a download, and checks that the client may read
// them. Fetching the bytes is the business of cache/download.
import { ageSeconds } from '../../http/age.ts'
import type { CacheOutcome } from '../../http/cache-status.ts'
import type { Digest } from '../../oci/digest.ts'
import { OciError } from '../../oci/errors.ts'
import type { Repository } from '../../oci/reference.ts'
import type { StoredObject } from '../../store/driver/driver.ts'
import { storageTrouble } from '../../store/disk/errno.ts'
import type { Link } from '../../store/records/links.ts'
import type { Source } from '../../upstream/face/source.ts'
import type { Access } from '../access/access.ts'
import { downloadKey } from '../flight/shared-key.ts'
import { type Content, HeldContent } from '../content.ts'
import type { Download } from '../download/download.ts'
import type { DownloadReader } from '../download/reader.ts'
import type { Downloads } from '../download/downloads.ts'
import { toClientError } from '../policy/failure.ts'
import type { FreshnessPolicy } from '../policy/freshness.ts'
import type { Grants } from '../access/grants.ts'
import type { HeldBlobs } from './held-blobs.ts'
import type { NegativeCache } from '../policy/negative-cache.ts'
import { RepairingContent } from './repairing-content.ts'
import type { Requester, UpstreamFace } from '../../upstream/face/requester.ts'

export interface BlobCacheOptions {
  readonly held: HeldBlobs
  readonly access: Access
  readonly grants: Grants
  readonly upstream: Pick<UpstreamFace, 'blobSources'>
  readonly downloads: Downloads
  readonly negative: NegativeCache
  /** Returns the settings in force. */
  readonly freshness: () => FreshnessPolicy
  readonly now?: () => number
}

/** An open blob. The caller closes its content. */
export interface OpenBlob {
  readonly content: Content
  readonly cache: CacheOutcome
}

/** A request for a blob, and what is known about the blob. */
interface BlobRequest {
  readonly repo: Repository
  readonly digest: Digest
  readonly requester: Requester
  /** The repository's link: a manifest there names the blob, or the upstream served it there. */
  readonly named: Link | undefined
  /** The size in bytes that a manifest, or a file that proved damaged, claims. */
  readonly claimedSize: number | undefined
}

export interface BlobHead {
  /** In bytes, as the upstream states it, else the manifest; undefined if neither does. */
  readonly size: number | undefined
  readonly cache: CacheOutcome
}

export class BlobCache {
  readonly #options: BlobCacheOptions
  readonly #now: () => number

  constructor(options: BlobCacheOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /**
   * Opens a blob for one response. For a cold blob of unknown size, it resolves once the upstream
   * has begun to answer. Throws OciError.
   */
  async open(repo: Repository, digest: Digest, requester: Requester): Promise<OpenBlob> {
    const { access, downloads } = this.#options
    const named = access.peek(repo, 'blob', digest) ?? (await this.#named(repo, digest))
    const open = await this.#openHeld(repo, digest, named, requester)
    if (open) return open
    if (named === undefined) this.#checkGone(repo, digest)
    const joined = downloads.get(downloadKey(digest, requester)) !== undefined
    const claimedSize = named?.size || undefined // 0 would promise an empty body
    const reader = await this.#read({ repo, digest, named, requester, claimedSize })
    const cache: CacheOutcome = joined ? { state: 'collapsed' } : { state: 'miss', stored: true }
    return { content: this.#arrivingContent(reader, repo, digest, named, requester), cache }
  }

  /**
   * Returns what a HEAD is answered with. If the blob is not held, this costs one upstream HEAD and
   * no download. Throws OciError.
   */
  async head(repo: Repository, digest: Digest, requester: Requester): Promise<BlobHead> {
    const { downloads } = this.#options
    const named = await this.#named(repo, digest)
    const { held } = this.#options
    const heldSize = await held.size(digest)
    if (heldSize !== undefined) {
      const link = await this.#authorise(repo, digest, requester)
      const isSound = await held.isSizeSound(digest, heldSize, named?.size)
      if (isSound) return { size: heldSize, cache: this.#hit(link) }
    }
    const size = downloads.get(downloadKey(digest, requester))?.size
    if (size !== undefined) {
      await this.#authorise(repo, digest, requester)
      return { size, cache: { state: 'collapsed' } }
    }
    const link = await this.#prove(repo, digest, requester, named)
    return { size: link.size ?? named?.size, cache: { state: 'miss', fwdStatus: 200 } }
  }

  /**
   * Opens the held blob, or returns undefined if there is none that may be served. Throws if the
   * requester may not read it.
   */
  async #openHeld(
    repo: Repository,
    digest: Digest,
    named: Link | undefined,
    requester: Requester,
  ): Promise<OpenBlob | undefined> {
    const { held } = this.#options
    const object = await held.open(digest)
    if (object === undefined) return undefined
    const content = this.#heldContent(object, repo, digest, named, requester)
    const link = await this.#authorised(content, repo, digest, requester)
    if (await held.isSound(digest, object, named?.size)) return { content, cache: this.#hit(link) }
    await held.close(object)
    return undefined
  }

  // Manifests are never served as blobs, even if the upstream would: a client would take the type
  // of the blob response for the manifest's.
  async #named(repo: Repository, digest: Digest): Promise<Link | undefined> {
    const { access } = this.#options
    const blob = await access.named(repo, 'blob', digest)
    if (blob || !(await access.named(repo, 'manifest', digest))) return blob
    throw new OciError('BLOB_UNKNOWN', `${digest} is a manifest in ${repo.name}, not a blob`)
  }

  /** Without a link, the upstream has confirmed the blob for this response, which has no age then. */
  #hit(link: Link | undefined): CacheOutcome {
    if (link === undefined) return { state: 'hit' }
    return { state: 'hit', ageSeconds: ageSeconds(link.at, this.#now()) }
  }

  /**
   * Returns the link by which the requester may read the blob, or undefined if the upstream was asked
   * and allows it. Throws OciError.
   */
  async #authorise(
    repo: Repository,
    digest: Digest,
    requester: Requester,
  ): Promise<Link | undefined> {
    const { access } = this.#options
    const link = access.peek(repo, 'blob', digest) ?? (await access.find(repo, 'blob', digest))
    if (link !== undefined) return link
    await this.#prove(repo, digest, requester, await access.named(repo, 'blob', digest))
    return undefined
  }

  async #prove(
    repo: Repository,
    digest: Digest,
    requester: Requester,
    named: Link | undefined,
  ): Promise<Link> {
    if (named === undefined) this.#checkGone(repo, digest)
    try {
      return await this.#options.access.prove(repo, 'blob', digest, requester)
    } catch (error) {
      this.#rememberGone(repo, digest, error instanceof OciError ? error.cause : error)
      throw error
    }
  }

  /** Like `#authorise`, but closes the content before it throws. */
  async #authorised(
    content: Content,
    repo: Repository,
    digest: Digest,
    requester: Requester,
  ): Promise<Link | undefined> {
    try {
      return await this.#authorise(repo, digest, requester)
    } catch (error) {
      await content.close()
      throw error
    }
  }

  // Only for blobs that no manifest of the repository names. A blob that was pushed a moment ago,
  // together with its manifest, must not be refused because of an earlier 404.
  #checkGone(repo: Repository, digest: Digest): void {
    const gone = this.#options.negative.get(negativeKey(repo, digest))
    if (gone) throw toClientError(gone, 'blob')
  }

  #rememberGone(repo: Repository, digest: Digest, error: unknown): void {
    const { negative, freshness } = this.#options
    negative.remember(negativeKey(repo, digest), error, freshness().defaults.negativeTtlMs)
  }

  #heldContent(
    object: StoredObject,
    repo: Repository,
    digest: Digest,
    named: Link | undefined,
    requester: Requester,
  ): Content {
    const repair = async (why: unknown) => {
      await this.#options.held.readFailed(digest, object, why)
      return await this.#read({ repo, digest, named, requester, claimedSize: object.size })
    }
    return new RepairingContent({ content: new HeldContent(digest, object), repair })
  }

  // After the digest is verified, the file may still be read for as long as the slowest client
  // takes. If the disk fails then, the blob counts as damaged and comes from the upstream again.
  #arrivingContent(
    reader: DownloadReader,
    repo: Repository,
    digest: Digest,
    named: Link | undefined,
    requester: Requester,
  ): Content {
    const repair = async (why: unknown) => {
      if (!reader.verified || storageTrouble(why) === undefined) throw why
      await this.#options.held.damaged(digest, undefined, why)
      return await this.#read({ repo, digest, named, requester, claimedSize: reader.size })
    }
    return new RepairingContent({ content: reader, repair })
  }

  /** Returns a reader of the running download of the blob, or of a new one. Throws OciError. */
  async #read(request: BlobRequest): Promise<DownloadReader> {
    const { digest, requester } = request
    for (;;) {
      const running = this.#options.downloads.get(downloadKey(digest, requester))
      if (running === undefined || isShared(running, request)) return await this.#start(request)
      const reader = await this.#joinOther(running, request)
      if (reader) return reader
    }
  }

  /**
   * Joins a download that no manifest allows this request to share. The upstream must prove that
   * the request may read the blob before the request reads it or adds its sources: otherwise one
   * requester could read what only the other may. Returns undefined if the download has failed
   * meanwhile.
   */
  async #joinOther(running: Download, request: BlobRequest): Promise<DownloadReader | undefined> {
    const { repo, digest, requester } = request
    let reader: DownloadReader | undefined
    try {
      // Take the reader before anything is awaited: the download may be over, and its file closed,
      // by the time the upstream has said whether this request may read it.
      reader = await running.reader(request.claimedSize)
      await running.opened
    } catch {
      await reader?.close()
      return undefined
    }
    await this.#authorised(reader, repo, digest, requester)
    if (running.failure === undefined) {
      running.join(this.#sources(request), request.claimedSize)
      return reader
    }
    await reader.close()
    return undefined
  }

  /**
   * Starts a download, or joins one that may be shared. If a manifest of the repository names the
   * blob, the request may read what its own registry sends. Otherwise the registry's response is
   * the proof that it may.
   */
  async #start(request: BlobRequest): Promise<DownloadReader> {
    const { repo, digest, named, requester, claimedSize: size } = request
    const { registry } = repo
    const key = downloadKey(digest, requester)
    const sources = this.#sources(request)
    const download = this.#options.downloads.start({ digest, registry, sources, size, key })
    download.opened.catch((error: unknown) => this.#rememberGone(repo, digest, error))
    let reader: DownloadReader | undefined
    try {
      reader = await download.reader(size) // before anything else is awaited, as in #joinOther
      // If the size is known, do not wait: the reader's plan then decides what is asked for first.
      if (size === undefined) await download.opened
      // The bytes may come from another repository's source, or from a partial file that a download
      // from another registry left.
      if (named === undefined || download.resumed) await this.#authorise(repo, digest, requester)
      return reader
    } catch (error) {
      await reader?.close()
      throw toClientError(error, 'blob')
    }
  }

  #sources({ repo, requester }: BlobRequest): Source[] {
    const sources = this.#options.upstream.blobSources(repo, requester)
    return sources.map((each) => this.#granting(repo, each))
  }

  // When the upstream serves the blob in this repository, it grants the repository access: record
  // that.
  #granting(repo: Repository, source: Source): Source {
    return {
      id: source.id,
      origin: source.origin,
      fetchOptions: source.fetchOptions,
      get health() {
        return source.health
      },
      get latencyMs() {
        return source.latencyMs
      },
      fetch: async (digest, range, signal) => {
        const response = await source.fetch(digest, range, signal)
        const { grantedBy } = response
        const link: Link = { kind: 'blob', grantedBy, at: this.#now() }
        this.#options.grants.recordFetched(repo, digest, link)
        return response
      },
    }
  }
}

/**
 * Reports whether a request may join a download without further proof: its repository names the
 * blob, and the download fetches it from the same registry.
 */
function isShared(running: Download, { repo, named }: BlobRequest): boolean {
  return named !== undefined && running.registry === repo.registry
}

function negativeKey(repo: Repository, digest: Digest): string {
  return `blob ${repo.registry}/${repo.name}@${digest}`
}
