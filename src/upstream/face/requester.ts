// What the cache asks of upstreams, and on whose behalf.
import type { Descriptor } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { CredentialSource } from '../credentials/credentials.ts'
import type { BlobHead, Budget, FetchedManifest, ManifestHead, TagPage } from './answers.ts'
import type { Source } from './source.ts'

/**
 * Every method rejects with an UpstreamError, with the signal's reason, or with an error of our
 * own.
 */
export interface UpstreamManifests {
  /** Sends HEAD, or a GET if the upstream refuses HEAD or leaves out digest, type or length. */
  headManifest(
    repo: Repository,
    reference: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<ManifestHead | FetchedManifest>
  getManifest(
    repo: Repository,
    reference: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<FetchedManifest>
  /** Returns what the registry still grants, or undefined if it names no limit. */
  budget(repo: Repository): Budget | undefined
}

export interface UpstreamBlobs {
  /**
   * Resolves if the upstream lets the requester have the blob, with its size if the upstream says.
   */
  headBlob(
    repo: Repository,
    digest: Digest,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<BlobHead>
  /** Returns where the repository's blobs can be read from, in the order in which to try. */
  blobSources(repo: Repository, requester: Requester): Source[]
}

export interface UpstreamLists {
  /**
   * Resolves with one page of tags. `query` is a raw query string for the upstream, without `ns`.
   */
  tags(
    repo: Repository,
    query: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<TagPage>
  /**
   * Resolves with all pages, bounded and unfiltered, or undefined if no endpoint has the API (404).
   */
  referrers(
    repo: Repository,
    digest: Digest,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<{ manifests: Descriptor[] } | undefined>
}

export interface UpstreamFace extends UpstreamManifests, UpstreamBlobs, UpstreamLists {}

export interface Requester {
  readonly credentials: CredentialSource
  /**
   * The CDN-Loop (RFC 8586) that the request came with, bounded. It is sent on with our name added.
   */
  readonly cdnLoop?: string
  /** Absent if there is only one configuration. */
  readonly epoch?: Epoch
}

/** The life of one configuration: a request is served to its end under the one it came in under. */
export interface Epoch {
  /** Unique per configuration. */
  readonly number: number
  readonly upstream: UpstreamFace
}
