// What this room reports about the requests it answers; observability/ implements it, main joins the
// two. Not an event bus: one call when a request begins, one when its response is over, and one for
// each connection on which there was none.
import type { CacheState } from '../http/cache-status.ts'

export type RequestKind =
  | 'ping'
  | 'catalog'
  | 'manifest'
  | 'blob'
  | 'tags'
  | 'referrers'
  | 'upload'
  | 'other'

/** One request and what became of it; complete when `requestFinished` hands it over. */
export interface RequestRecord {
  readonly id: string
  readonly method: string
  /** The raw path without its query, which may hold a client's secrets. */
  readonly path: string
  readonly kind: RequestKind
  readonly registry: string | undefined
  readonly repository: string | undefined
  /** Tag or digest, as asked for. */
  readonly reference: string | undefined
  readonly cache: CacheState | undefined
  readonly status: number
  /** Body bytes handed to the kernel, of a response that was cut too; of its last write all or nothing. */
  readonly bytes: number
  readonly seconds: number
  readonly client: string | undefined
  readonly userAgent: string | undefined
  /** The client left, or the response was cut, before it was complete. */
  readonly aborted: boolean
  /** Why it failed: an upstream's failure reason, else an error code. */
  readonly failure: string | undefined
  /** The sentence that goes with `failure`. */
  readonly message: string | undefined
}

/** Why a connection was closed on which no request could be read. */
export type RefusalReason =
  | 'tls-to-plain-port'
  | 'plain-to-tls-port'
  | 'tls-handshake'
  | 'http2'
  | 'header-too-large'
  | 'malformed'
  | 'timed-out'

export interface RefusedConnection {
  readonly reason: RefusalReason
  /** One sentence, with the cure where there is one; the client is told the same where it can be. */
  readonly message: string
  readonly client: string | undefined
}

export interface RequestObserver {
  requestStarted(): void
  requestFinished(record: RequestRecord): void
}

export interface ServerObserver extends RequestObserver {
  /** Once for each connection; clients that just left are none. */
  connectionRefused(refused: RefusedConnection): void
  /** An error that is Chandlery's own: a bug, or a resource that ran out. */
  unexpectedError(operation: string, error: unknown, requestId: string): void
}
