// What the cache reports about itself. Not metrics or logs: observability/ implements this.
/** Why something that is no longer fresh was served: the `detail` of Cache-Status (RFC 9211). */
export type StaleReason =
  | 'revalidating'
  | 'upstream-error'
  | 'rate-limited'
  | 'upstream-gone'
  | 'denied'
  /** The upstream could not be asked, and that is not its fault. */
  | 'internal-error'
  /** So few requests are left there that they go to what nobody has. */
  | 'budget-low'

export interface CacheObserver {
  /** The store could not be read or written. It cost a cache entry, never an answer. */
  storeError(operation: string, error: unknown): void
  /** Something that is not a blob was written. */
  stored?(operation: string): void
  /** A client was given what is held although it is no longer fresh. */
  staleServed(reason: StaleReason): void
  /** An error that no upstream and no store explains: a fault in Chandlery. */
  unexpectedError(operation: string, error: unknown): void
}
