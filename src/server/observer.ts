// The observer of the server: one call when a request begins, one when its response is over, and one for
// each connection that was refused without a request. src/observability implements it.
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

/** One request and its outcome. It is complete when it is passed to `requestFinished`. */
export interface RequestRecord {
  readonly id: string
  readonly method: string
  /** The raw path without the query, which may contain secrets of the client. */
  readonly path: string
  readonly kind: RequestKind
  readonly registry: string | undefined
  readonly repository: string | undefined
  /** The tag or digest as the client requested it. */
  readonly reference: string | undefined
  readonly cache: CacheState | undefined
  readonly status: number
  /** Body bytes handed to the kernel, also of a response that was cut. A write that failed counts as 0. */
  readonly bytes: number
  readonly seconds: number
  readonly client: string | undefined
  readonly userAgent: string | undefined
  /** Whether the client left, or the response was cut, before it was complete. */
  readonly aborted: boolean
  /** Why the request failed: the failure reason of an upstream, or an error code. */
  readonly failure: string | undefined
  /** The sentence that goes with `failure`. */
  readonly message: string | undefined
}

/** Why a connection was refused without a readable request. */
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
  /** One sentence, with the cure if there is one. The client gets the same text if it can be told. */
  readonly message: string
  readonly client: string | undefined
}

export interface RequestObserver {
  requestStarted(): void
  requestFinished(record: RequestRecord): void
}

export interface ServerObserver extends RequestObserver {
  /** Called once for each refused connection. A client that merely disconnects is not refused. */
  connectionRefused(refused: RefusedConnection): void
  /** Reports an error of Chandlery's own: a bug, or a resource that ran out. */
  unexpectedError(operation: string, error: unknown, requestId: string): void
}
