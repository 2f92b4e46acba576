// What a download is given when it begins, and whom it reports to.
import type { Digest } from '../../oci/digest.ts'
import type { Ingest } from '../../store/ingest/ingest.ts'
import type { UpstreamError } from '../../upstream/face/failure.ts'
import type { Source } from '../../upstream/face/source.ts'
import type { MemoryBudget } from '../bypass/memory-budget.ts'
import type { FetchOptions } from '../fetch/fetch.ts'

export interface DownloadObserver {
  downloadStarted(): void
  downloadEnded(outcome: 'kept' | 'not-kept' | 'failed'): void
  readersChanged(by: 1 | -1): void
  /** `endpoint` gave bytes that are not what the digest names; 'several' where more than one did. */
  verificationFailed(endpoint: string, digest: Digest): void
  /** A request failed; the download may go on from another source, or from where it broke. */
  sourceFailed(error: UpstreamError, digest: Digest): void
  storeError(operation: string, error: unknown): void
  /** A download ended by an error that no source and no store explains: a fault in Chandlery. */
  unexpectedError?(operation: string, error: unknown): void
}

export interface DownloadOptions {
  readonly digest: Digest
  readonly sources: readonly Source[]
  /** The size in bytes that the first reader's manifest claims; undefined if no manifest names the blob. */
  readonly claimedSize: number | undefined
  readonly suspect: boolean
  readonly observer: DownloadObserver
  /** The first pause before a source that broke is asked again, in milliseconds; doubled each time. */
  readonly retryDelayMs: number
  readonly fetch: DownloadFetchOptions
  /** The registry whose content it is, according to the request that began the download. */
  readonly registry: string
  createIngest(digest: Digest): Promise<Ingest>
  /** The memory of all blobs that bypass the disk. */
  readonly memory: MemoryBudget
  /** Reports whether so many bytes more can be kept; a blob that cannot bypasses the disk. Default: yes. */
  readonly hasRoom?: ((bytes: number) => Promise<boolean>) | undefined
}

export interface DownloadFetchOptions extends FetchOptions {
  /** Whether a blob of which only parts are read is fetched as a whole all the same. */
  readonly fill: 'onFullRead' | 'always'
  /** A blob that nobody reads, and nobody wants as a whole, is given up after this time, in milliseconds. */
  readonly idleMs: number
}
