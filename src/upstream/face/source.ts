// Where a blob can be read from: an endpoint, the repository's name there, and a credential. A
// download may have several sources and switch between them, because content is addressed by digest.
import type { Digest } from '../../oci/digest.ts'

/** Whether an upstream gives content to anybody, or only to a credential. */
export type GrantedBy = 'anonymous' | 'credential'

/**
 * Bytes [start, end) of a blob, or to its last without `end`. The whole blob is requested without
 * Range.
 */
export interface BlobRange {
  readonly start: number
  readonly end?: number | undefined
}

export interface SourceResponse {
  /** The offset of the body's first byte in the blob: 0 if the upstream ignored Range. */
  readonly start: number
  /** The offset after the last byte that this body will bring, if the upstream said. */
  readonly end: number | undefined
  /**
   * The upstream honours Range: 206 with the range that was requested, or as much of it as there
   * is.
   */
  readonly ranged: boolean
  /** The size of the whole blob in bytes, if the upstream said. */
  readonly size: number | undefined
  /**
   * Throws an UpstreamError (cut, timed-out, reset, wrong-size) if it is not as long as announced.
   */
  readonly body: AsyncIterable<Uint8Array> & { discard(): void }
  readonly grantedBy: GrantedBy
}

/**
 * The health of an endpoint. `open`: it failed several times in a row, ask it last. `limited`: it told
 * us to wait, ask it only if no other source can help, and never for what may not be needed.
 */
export type SourceHealth = 'ok' | 'open' | 'limited'

/** What the configuration says about one host. What is absent is as for all hosts. */
export interface SourceFetchOptions {
  readonly pieceBytes?: number
  /** How many requests to run at once for one blob. */
  readonly connections?: number
  readonly maxConnections?: number
}

export interface Source {
  /** Sources with equal ids are the same source. Not a secret. */
  readonly id: string
  /** The endpoint's `key`, for logs and metric labels. */
  readonly origin: string
  /** The endpoint's health now. Changes over time. */
  readonly health: SourceHealth
  readonly fetchOptions?: SourceFetchOptions | undefined
  /**
   * From a request to the head of its answer, in milliseconds, in the endpoint's quickest recent
   * answers.
   */
  readonly latencyMs?: number | undefined
  /**
   * Requests a part of the blob; a number is where it starts. Rejects with an UpstreamError, with the
   * signal's reason, or with an error of our own.
   */
  fetch(digest: Digest, range: BlobRange | number, signal: AbortSignal): Promise<SourceResponse>
}
