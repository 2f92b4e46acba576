// What upstreams answer to requests for manifests, blobs and lists.
import type { Digest } from '../../oci/digest.ts'
import type { GrantedBy } from './source.ts'

export interface FetchedManifest {
  /** Verified, except for schema1: there it is what the upstream said. */
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Buffer
  /** The endpoint's `key`. */
  readonly endpoint: string
  readonly grantedBy: GrantedBy
}

export interface ManifestHead {
  readonly digest: Digest
  readonly mediaType: string
  /** In bytes. */
  readonly size: number
  readonly endpoint: string
  readonly grantedBy: GrantedBy
}

export interface BlobHead {
  /** In bytes, if the upstream says. */
  readonly size: number | undefined
  readonly grantedBy: GrantedBy
  /** The endpoint's `key`. */
  readonly endpoint: string
}

export interface TagPage {
  readonly tags: string[]
  /** The raw query string of the upstream's next page. */
  readonly next?: string
}

export interface Budget {
  readonly limit: number
  readonly remaining: number
  /** So little is left that it is kept for content that is not held: nothing is revalidated. */
  readonly low: boolean
}
