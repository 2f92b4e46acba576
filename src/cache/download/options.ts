// What a download is told when it begins, and whom it reports to.
import type { Digest } from '../../oci/digest.ts'
import type { Ingest } from '../../store/ingest/ingest.ts'
import type { UpstreamError } from '../../upstream/face/failure.ts'
import type { Source } from '../../upstream/face/source.ts'
import type { PassingMemory } from '../bypass/memory-budget.ts'
import type { FetchOptions } from '../fetch/request-choice.ts'

export interface DownloadObserver {
  downloadStarted(): void
  downloadEnded(outcome: 'kept' | 'not-kept' | 'failed'): void
  readersChanged(by: 1 | -1): void
  /** `endpoint` gave bytes that are not what the digest names; 'several' where more than one gave. */
  verificationFailed(endpoint: string, digest: Digest): void
  /** A try at a source failed; the download may go on from another, or from where it broke. */
  sourceFailed(error: UpstreamError, digest: Digest): void
  storeError(operation: string, error: unknown): void
  /** A download ended by an error that no source and no store explains: a fault in Chandlery. */
  unexpectedError?(operation: string, error: unknown): void
}

export interface DownloadOptions {
  readonly digest: Digest
  readonly sources: readonly Source[]
  /** What the manifest says; a source that says otherwise is not believed. */
  readonly size: number | undefined
  readonly suspect: boolean
  readonly observer: DownloadObserver
  /** First pause before a source that broke is asked again; doubled each time. */
  readonly retryDelayMs: number
  readonly fetch: DownloadFetchOptions
  /** The registry whose content it is, as far as the first who asked said. */
  readonly registry: string
  createIngest(digest: Digest): Promise<Ingest>
  /** That of all blobs that pass through. */
  readonly memory: PassingMemory
  /** Whether so many bytes more can be kept; what cannot passes through. Default: yes. */
  readonly hasRoom?: ((bytes: number) => Promise<boolean>) | undefined
}

export interface DownloadFetchOptions extends FetchOptions {
  /** A blob of which only parts are read: fetched as a whole all the same, or only what is read. */
  readonly fill: 'onFullRead' | 'always'
  /** What nobody reads and nobody needs as a whole is given up after this time, in milliseconds. */
  readonly idleMs: number
}
