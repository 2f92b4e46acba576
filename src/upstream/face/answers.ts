// What upstreams answer to questions about manifests, blobs and lists.
import type { Digest } from '../../oci/digest.ts'
import type { GrantedBy } from './source.ts'

export interface FetchedManifest {
  /** Verified, but for schema1: that one is as the upstream said. */
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
  /** In bytes, where the upstream says. */
  readonly size: number | undefined
  readonly grantedBy: GrantedBy
  /** The endpoint's `key`. */
  readonly endpoint: string
}

export interface TagPage {
  readonly tags: string[]
  /** Raw query string of the upstream's next page. */
  readonly next?: string
}

export interface Budget {
  readonly limit: number
  readonly remaining: number
  /** So little is left that it should go to what nobody has: revalidate nothing. */
  readonly low: boolean
}
