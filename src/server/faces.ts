// What this room needs of the others, and no more: the caches' classes and the registries satisfy it.
import type { Caller } from '../cache/flight/caller.ts'
import type { Content } from '../cache/content.ts'
import type { CacheOutcome } from '../http/cache-status.ts'
import type { Descriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import type { Target } from '../oci/target.ts'

/** Where a request belongs. */
export interface Routed {
  readonly registry: string
  /** Canonical; absent for ping and catalog. */
  readonly repository?: Repository | undefined
  /** `<name>` exactly as it stood in the client's path. */
  readonly clientName?: string | undefined
  /** What stood before /v2: '' or '/docker.io'. */
  readonly clientPrefix: string
  readonly ns?: string | undefined
  /** The registry was named by the request, not just the default. */
  readonly named: boolean
}

/** A route below a repository. */
export type RoutedRepository = Routed & { readonly repository: Repository }

export interface Router {
  /** Throws OciError NAME_UNKNOWN or NAME_INVALID. */
  route(target: Target, request: { ns?: string; host?: string }): Routed
}

export interface ServedManifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  /** Always there on `get`. */
  readonly bytes?: Buffer
  readonly cache: CacheOutcome
}

export interface ManifestReader {
  get(repository: Repository, reference: string, caller: Caller): Promise<ServedManifest>
  head(repository: Repository, reference: string, caller: Caller): Promise<ServedManifest>
}

export interface BlobReader {
  open(
    repository: Repository,
    digest: Digest,
    caller: Caller,
  ): Promise<{ content: Content; cache: CacheOutcome }>
  head(
    repository: Repository,
    digest: Digest,
    caller: Caller,
  ): Promise<{ size: number | undefined; cache: CacheOutcome }>
}

export interface TagReader {
  /** `query` and `next` are raw query strings, without `ns`. */
  list(
    repository: Repository,
    query: string,
    caller: Caller,
  ): Promise<{ tags: readonly string[]; next?: string | undefined; cache: CacheOutcome }>
}

export interface ReferrerReader {
  /** All of them, unfiltered. */
  list(
    repository: Repository,
    digest: Digest,
    caller: Caller,
  ): Promise<{ manifests: readonly Descriptor[]; cache: CacheOutcome }>
}

export interface CatalogReader {
  /** Sorted; with the registry as first component where none is asked for. */
  repositories(registry: string | undefined): Promise<readonly string[]>
}

/** Everything a route may need to answer. */
export interface Faces {
  readonly manifests: ManifestReader
  readonly blobs: BlobReader
  readonly tags: TagReader
  readonly referrers: ReferrerReader
  readonly catalog: CatalogReader
  readonly caller: Caller
}
