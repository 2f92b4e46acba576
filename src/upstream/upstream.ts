// The face of this room: a repository over its registry's endpoints in order, the next one on any
// failure; of several failures the least final decides.
import type { Descriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import type { RegistryClient } from './client.ts'
import type { CredentialSource } from './credentials.ts'
import type { Endpoint } from './endpoint.ts'
import type { GrantedBy, Source } from './source.ts'

export type { UpstreamObserver } from './observer.ts'

export interface FetchedManifest {
  /** Verified, but for schema1: that one is as the upstream said. */
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Buffer
  readonly endpoint: string
  readonly grantedBy: GrantedBy
}

export interface ManifestHead {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  readonly endpoint: string
  readonly grantedBy: GrantedBy
}

export interface BlobHead {
  readonly size: number | undefined
  readonly grantedBy: GrantedBy
  readonly endpoint: string
}

export interface TagPage {
  readonly tags: string[]
  /** Raw query string of the upstream's next page. */
  readonly next?: string
}

export interface UpstreamOptions {
  readonly registries: { endpoints(registry: string): readonly Endpoint[] }
  readonly client: RegistryClient
}

export class Upstream {
  readonly #registries: UpstreamOptions['registries']
  readonly #client: RegistryClient

  constructor(options: UpstreamOptions) {
    this.#registries = options.registries
    this.#client = options.client
  }

  /** HEAD, or a GET where the upstream refuses HEAD or leaves out digest, type or length. */
  async headManifest(
    repo: Repository,
    reference: string,
    credentials: CredentialSource,
    signal?: AbortSignal,
  ): Promise<ManifestHead | FetchedManifest> {
    return this.#todo(repo, reference, credentials, signal)
  }

  async getManifest(
    repo: Repository,
    reference: string,
    credentials: CredentialSource,
    signal?: AbortSignal,
  ): Promise<FetchedManifest> {
    return this.#todo(repo, reference, credentials, signal)
  }

  async headBlob(
    repo: Repository,
    digest: Digest,
    credentials: CredentialSource,
    signal?: AbortSignal,
  ): Promise<BlobHead> {
    return this.#todo(repo, digest, credentials, signal)
  }

  blobSources(repo: Repository, credentials: CredentialSource): Source[] {
    return this.#todo(repo, credentials)
  }

  /** `query`: raw query string for the upstream, without `ns`. */
  async tags(
    repo: Repository,
    query: string,
    credentials: CredentialSource,
    signal?: AbortSignal,
  ): Promise<TagPage> {
    return this.#todo(repo, query, credentials, signal)
  }

  /** All pages, bounded, unfiltered; undefined: no endpoint has the API (404). */
  async referrers(
    repo: Repository,
    digest: Digest,
    credentials: CredentialSource,
    signal?: AbortSignal,
  ): Promise<{ manifests: Descriptor[] } | undefined> {
    return this.#todo(repo, digest, credentials, signal)
  }

  #todo(..._args: unknown[]): never {
    throw new Error(`not written yet ${String(this.#client)} ${String(this.#registries)}`)
  }
}
