// Requests to registries and what they answer, as the chain passes them on.
import type { Credential } from '../credentials/credentials.ts'
import type { GrantedBy } from '../face/source.ts'
import type { Headers } from '../../http/headers.ts'

export interface RegistryRequest {
  readonly method: 'GET' | 'HEAD'
  /** The repository's name AFTER rewrite. */
  readonly name: string
  /** "manifests/latest", "blobs/sha256:…", "tags/list" */
  readonly path: string
  /** Raw, without "?". */
  readonly query?: string | undefined
  readonly accept?: string | undefined
  readonly range?: string | undefined
  readonly credential: Credential
  /** The CDN-Loop of the request behind this one. */
  readonly cdnLoop?: string | undefined
  readonly signal?: AbortSignal | undefined
  readonly kind: 'manifest' | 'blob' | 'tags' | 'referrers'
  /** The endpoint was named by a client ("*" in mirrors): nothing but public addresses is asked. */
  readonly publicOnly?: boolean
}

export interface RegistryResponse {
  readonly status: number
  readonly headers: Headers
  /** What answered, after redirects. May hold a signature: its query is not for logs. */
  readonly url: URL
  /** Must be read to its end or discarded. Throws UpstreamError when it ends early or stalls. */
  readonly body: AsyncIterable<Uint8Array> & { discard(): void }
  /** Whether the registry asked for our credential to give this. */
  readonly grantedBy: GrantedBy
}
