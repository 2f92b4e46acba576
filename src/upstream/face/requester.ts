// What the cache asks of upstreams, and on whose behalf.
import type { Descriptor } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { CredentialSource } from '../credentials/credentials.ts'
import type { BlobHead, Budget, FetchedManifest, ManifestHead, TagPage } from './answers.ts'
import type { Source } from './source.ts'

/** Every method throws UpstreamError, or the signal's reason. */
export interface UpstreamFace {
  /** HEAD, or a GET where the upstream refuses HEAD or leaves out digest, type or length. */
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
  /** Reports whether the upstream lets the requester have the blob, and its size where it says. */
  headBlob(
    repo: Repository,
    digest: Digest,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<BlobHead>
  /** Returns where the repository's blobs can be read from, in the order in which to try. */
  blobSources(repo: Repository, requester: Requester): Source[]
  /** Returns one page of tags. `query` is a raw query string for the upstream, without `ns`. */
  tags(
    repo: Repository,
    query: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<TagPage>
  /** Returns all pages, bounded and unfiltered; undefined if no endpoint has the API (404). */
  referrers(
    repo: Repository,
    digest: Digest,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<{ manifests: Descriptor[] } | undefined>
  /** Returns what the registry still grants; undefined if it names no limit. */
  budget(repo: Repository): Budget | undefined
}

export interface Requester {
  readonly credentials: CredentialSource
  /** The CDN-Loop (RFC 8586) that the request came with, bounded: it is sent on, with our name added. */
  readonly cdnLoop?: string
  /** Absent where there is only one configuration. */
  readonly epoch?: Epoch
}

/** One configuration's time: a request is served to its end under the configuration it came in under. */
export interface Epoch {
  /** Unique per configuration. */
  readonly number: number
  readonly upstream: UpstreamFace
}
