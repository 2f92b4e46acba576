// One place a blob can be read from: an endpoint, the repository's name there, and a credential.
// A download may have several and change between them, because content is addressed by digest.
import type { Digest } from '../../oci/digest.ts'

/** Whether an upstream gave content to anybody or only to a credential. */
export type GrantedBy = 'anonymous' | 'credential'

/** Bytes [start, end) of a blob; without `end`: to its last. From 0 without `end` is the whole, asked for without Range. */
export interface BlobRange {
  readonly start: number
  readonly end?: number | undefined
}

export interface SourceResponse {
  /** Offset of the body's first byte in the blob: 0 when the upstream ignored Range. */
  readonly start: number
  /** Offset after the last byte that this body will bring, where the upstream said. */
  readonly end: number | undefined
  /** It honours Range: 206 with a Content-Range that is what was asked for, or as much of it as there is. */
  readonly ranged: boolean
  /** Size of the whole blob in bytes, where the upstream said. */
  readonly size: number | undefined
  /** Throws UpstreamError (cut, timed-out, reset, wrong-size) when it is not as long as announced. */
  readonly body: AsyncIterable<Uint8Array> & { discard(): void }
  readonly grantedBy: GrantedBy
}

/**
 * How an endpoint fares: `open`: it failed again and again, ask it last; `limited`: it told us to
 * wait, ask it only where no other can help, and never for what may not be needed.
 */
export type SourceHealth = 'ok' | 'open' | 'limited'

/** What the configuration says of one host alone; what is absent is as for all. */
export interface SourceFetchOptions {
  readonly pieceBytes?: number
  /** Requests at once for one blob where it is far. */
  readonly connections?: number
  readonly maxConnections?: number
}

export interface Source {
  /** Equal ids are the same source: endpoint, name there and credential fingerprint. Not a secret. */
  readonly id: string
  /** The endpoint's `key`, for logs and metric labels. */
  readonly origin: string
  /** Of its endpoint now; changes over time. */
  readonly health: SourceHealth
  readonly fetchOptions?: SourceFetchOptions | undefined
  /** From a question to the head of its answer, milliseconds, as its endpoint's quickest answers lately were. */
  readonly latencyMs?: number | undefined
  /** Asks for a part of the blob; a number is where it starts. Throws UpstreamError, or the signal's reason. */
  fetch(digest: Digest, range: BlobRange | number, signal: AbortSignal): Promise<SourceResponse>
}
