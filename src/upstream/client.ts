// One request to one endpoint: authorisation, redirects, guards, limits, observation.
import type { Credential } from './credentials.ts'
import type { Endpoint } from './endpoint.ts'

export interface RegistryRequest {
  readonly method: 'GET' | 'HEAD'
  /** The repository's name AFTER rewrite. */
  readonly name: string
  /** "manifests/latest", "blobs/sha256:…", "tags/list" */
  readonly path: string
  readonly query?: string
  readonly accept?: string
  readonly range?: string
  readonly credential: Credential
  readonly signal?: AbortSignal
  readonly kind: 'manifest' | 'blob' | 'tags' | 'referrers'
}

export interface RegistryResponse {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** The URL that answered, after redirects. May hold a signature: never log its query. */
  readonly url: URL
  readonly body: AsyncIterable<Uint8Array> & { discard(): void }
}

export class RegistryClient {
  /** Resolves for 2xx and 416; throws UpstreamError otherwise, or the signal's reason. */
  async request(_endpoint: Endpoint, _request: RegistryRequest): Promise<RegistryResponse> {
    throw new Error('not written yet')
  }

  async close(): Promise<void> {}
}
