// The events that the cache reports. observability/ turns them into metrics and log lines.

/** Why a stale answer was served; the `detail` of Cache-Status (RFC 9211). */
export type StaleReason =
  | 'revalidating'
  | 'upstream-error'
  | 'rate-limited'
  | 'upstream-gone'
  | 'denied'
  /** An error in Chandlery itself kept it from asking the upstream. */
  | 'internal-error'
  /** The upstream grants so few more requests that they are saved for content that is not held. */
  | 'budget-low'

export interface CacheObserver {
  /** The store could not be read or written. That cost a cache entry, never a response. */
  storeError(operation: string, error: unknown): void
  /** A record or manifest was written; blobs are reported elsewhere. */
  stored?(operation: string): void
  /** A client was sent a held answer that is no longer fresh. */
  staleServed(reason: StaleReason): void
  /** An error that neither the upstream nor the store caused, but Chandlery itself. */
  unexpectedError(operation: string, error: unknown): void
}
