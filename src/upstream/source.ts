// One place a blob can be read from: an endpoint, the repository's name there, and a credential.
// A download may have several and change between them, because content is addressed by digest.
import type { Digest } from '../oci/digest.ts'

/** Whether an upstream gave content to anybody or only to a credential. */
export type GrantedBy = 'anonymous' | 'credential'

export interface SourceResponse {
  /** Offset of the body's first byte in the blob: 0 when the upstream ignored Range. */
  readonly start: number
  /** Size of the whole blob in bytes, where the upstream said. */
  readonly size: number | undefined
  /** Throws UpstreamError (cut, timed-out, reset, wrong-size) when it is not as long as announced. */
  readonly body: AsyncIterable<Uint8Array> & { discard(): void }
  readonly grantedBy: GrantedBy
}

export interface Source {
  /** Equal ids are the same source: endpoint, name there and credential fingerprint. Not a secret. */
  readonly id: string
  /** The endpoint's `key`, for logs and metric labels. */
  readonly origin: string
  /** Asks for the blob from byte `start` on. Throws UpstreamError, or the signal's reason. */
  fetch(digest: Digest, start: number, signal: AbortSignal): Promise<SourceResponse>
}
