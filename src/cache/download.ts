// One fetch of one blob, owned by nobody's request: it asks its sources until the bytes are here,
// verifies them, keeps them, and feeds every reader meanwhile. A client that leaves changes nothing.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Digest } from '../oci/digest.ts'
import type { Ingest } from '../store/ingest.ts'
import { OciError } from '../oci/errors.ts'
import { ContentError } from '../store/content-error.ts'
import { leastFinal, UpstreamError } from '../upstream/failure.ts'
import type { Source, SourceResponse } from '../upstream/source.ts'
import { Attempt } from './attempt.ts'
import { DownloadReader, type DownloadView } from './download-reader.ts'
import { pour, TooLong, WriteFailed } from './pour.ts'
import { SourceQueue } from './source-queue.ts'

/** Bytes that prove wrong are fetched again this often, or once from every source if there are more. */
const LEAST_ATTEMPTS = 2
const MOST_ATTEMPTS = 4

export interface DownloadObserver {
  downloadStarted(): void
  downloadEnded(outcome: 'kept' | 'not-kept' | 'failed'): void
  readersChanged(by: 1 | -1): void
  /** `endpoint` gave bytes that are not what the digest names; 'several' where more than one gave. */
  verificationFailed(endpoint: string, digest: Digest): void
  /** A try at a source failed; the download may go on from another, or from where it broke. */
  sourceFailed(error: UpstreamError, digest: Digest): void
  storeError(operation: string, error: unknown): void
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
  createIngest(digest: Digest): Promise<Ingest>
}

export class Download implements DownloadView {
  readonly digest: Digest
  /** Resolves when an upstream has begun to answer; rejects with the reason when none will. */
  readonly opened: Promise<void>
  /** Resolves when the download is over and its file kept or given up; never rejects. */
  readonly ended: Promise<void>
  readonly #options: DownloadOptions
  readonly #queue: SourceQueue
  readonly #readers = new Set<DownloadReader>()
  readonly #abort = new AbortController()
  readonly #open = Promise.withResolvers<void>()
  /** The last is the current one; the others were corrupt. */
  readonly #attempts: Attempt[] = []
  #size: number | undefined
  #suspect: boolean
  #failure: Error | undefined
  #isOver = false

  constructor(options: DownloadOptions) {
    this.#options = options
    this.digest = options.digest
    this.#size = options.size
    this.#suspect = options.suspect
    this.#queue = new SourceQueue(options.retryDelayMs)
    this.#queue.add(options.sources)
    this.opened = this.#open.promise
    this.opened.catch(() => {}) // nobody may be waiting for it any more
    this.ended = this.#run()
  }

  get size(): number | undefined {
    return this.#size
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  /** Nothing can be read of it any more by who comes now. */
  get isOver(): boolean {
    return this.#isOver || this.#failure !== undefined
  }

  get suspect(): boolean {
    return this.#suspect
  }

  /** Another request's ways to the same bytes. */
  join(sources: readonly Source[]): void {
    this.#queue.add(sources)
  }

  /** A new reader; `opened` has just resolved. */
  read(): DownloadReader {
    const attempt = this.#attempts.at(-1)
    if (!attempt) throw new Error('the download has not opened')
    const reader = new DownloadReader(this, attempt)
    this.#readers.add(reader)
    this.#options.observer.readersChanged(1)
    return reader
  }

  left(reader: DownloadReader): void {
    if (this.#readers.delete(reader)) this.#options.observer.readersChanged(-1)
  }

  /** Ends it, for shutdown: readers are cut, the unfinished file goes. */
  async stop(): Promise<void> {
    this.#abort.abort(new OciError('UNAVAILABLE', 'the server is shutting down'))
    await this.ended
  }

  async #run(): Promise<void> {
    const { observer } = this.#options
    observer.downloadStarted()
    try {
      await this.#fetchGood()
      observer.downloadEnded((await this.#keep()) ? 'kept' : 'not-kept')
    } catch (error) {
      this.#fail(error)
      observer.downloadEnded('failed')
    }
    this.#isOver = true
    await Promise.allSettled(this.#attempts.map((attempt) => attempt.release()))
  }

  // Attempts until one has the bytes the digest names; the bad ones stay for the readers they have.
  async #fetchGood(): Promise<void> {
    for (;;) {
      const attempt = new Attempt(await this.#createIngest())
      this.#attempts.push(attempt)
      await this.#fill(attempt)
      const mismatch = await this.#verify(attempt)
      if (!mismatch) return await this.#trust(attempt)
      const most = Math.min(MOST_ATTEMPTS, Math.max(LEAST_ATTEMPTS, this.#queue.length))
      if (this.#attempts.length >= most) throw mismatch
    }
  }

  async #createIngest(): Promise<Ingest> {
    try {
      return await this.#options.createIngest(this.digest)
    } catch (cause) {
      throw new WriteFailed('a file for the download cannot be made', { cause })
    }
  }

  async #fill(attempt: Attempt): Promise<void> {
    const { signal } = this.#abort
    for (;;) {
      const at = attempt.readableFrom(0)
      if (at === this.#size && attempt.sources.size > 0) return // it broke at its very end
      const source = this.#queue.next()
      if (!source) throw this.#failed(leastFinal(this.#queue.errors))
      try {
        return await this.#take(attempt, source, await source.fetch(this.digest, at, signal), at)
      } catch (error) {
        signal.throwIfAborted()
        if (error instanceof WriteFailed) throw error
        await this.#recover(
          source,
          asUpstreamError(error, source),
          attempt.readableFrom(0) - at,
          at,
        )
      }
    }
  }

  // Ends when the blob is complete; throws when this response did not complete it.
  async #take(
    attempt: Attempt,
    source: Source,
    response: SourceResponse,
    at: number,
  ): Promise<void> {
    const { start, size = this.#size, body } = response
    const refusal = this.#refusal(source, response, at)
    if (refusal) {
      body.discard() // or its connection would wait for a reader for ever
      throw refusal
    }
    this.#size = size
    attempt.sources.add(source)
    this.#open.resolve()
    await pour({
      ingest: attempt.ingest,
      body,
      from: start,
      at,
      limit: size ?? Infinity,
      written: () => this.#wake(),
    })
    const end = attempt.readableFrom(0)
    if (size !== undefined && end < size)
      throw failed(source, 'cut', `ended at byte ${end} of ${size}`)
    this.#size = end
  }

  #refusal(source: Source, { start, size }: SourceResponse, at: number): UpstreamError | undefined {
    if (start > at) return failed(source, 'protocol', `answered from byte ${start}, not ${at}`)
    const expected = this.#size
    if (size === undefined || expected === undefined || size === expected) return undefined
    return failed(source, 'wrong-size', `says ${size} bytes where ${expected} are expected`)
  }

  async #recover(source: Source, error: UpstreamError, given: number, at: number): Promise<void> {
    this.#options.observer.sourceFailed(error, this.digest)
    this.#queue.failed(source, error, given, at + given > 0)
    const pauseMs = this.#queue.pauseMs
    // Never less than it was asked for, and not in step with others.
    if (pauseMs > 0)
      await sleep(pauseMs * (1 + Math.random() / 2), undefined, { signal: this.#abort.signal })
  }

  /** @returns why the bytes are not what the digest names, or undefined when they are */
  async #verify(attempt: Attempt): Promise<UpstreamError | undefined> {
    try {
      await attempt.ingest.verify(this.#size)
      return undefined
    } catch (error) {
      if (!(error instanceof ContentError))
        throw new WriteFailed('what was written cannot be read again', { cause: error })
      return await this.#distrust(attempt, error)
    }
  }

  async #distrust(attempt: Attempt, cause: ContentError): Promise<UpstreamError> {
    this.#suspect = true
    this.#size = this.#options.size
    const origins = [...new Set([...attempt.sources].map((source) => source.origin))]
    const origin = origins.length === 1 ? origins[0]! : 'several'
    const error = new UpstreamError(
      cause.reason,
      `${origins.join(', ')} sent bytes that are not ${this.digest}: nothing was kept`,
      { endpoint: origin, cause },
    )
    attempt.mismatch = error
    for (const source of attempt.sources) this.#queue.lied(source, error)
    this.#options.observer.verificationFailed(origin, this.digest)
    await attempt.ingest
      .abort()
      .catch((e: unknown) => this.#options.observer.storeError('abort', e))
    return error
  }

  async #trust(attempt: Attempt): Promise<void> {
    attempt.verified = true
    this.#suspect = false
    this.#wake()
    const behind = [...this.#readers].filter((reader) => reader.attempt !== attempt)
    await Promise.all(behind.map((reader) => this.#judge(reader, attempt)))
  }

  // A reader of a bad attempt goes on from the good one unless it was given a byte that differs.
  async #judge(reader: DownloadReader, good: Attempt): Promise<void> {
    const { start, end } = reader.given
    try {
      const same = reader.promised(this.#size) && (await good.agrees(reader.attempt, start, end))
      if (same) return await reader.moveTo(good)
    } catch (error) {
      this.#options.observer.storeError('read', error)
    }
    const message = `bytes of ${this.digest} that were sent already proved to be corrupt`
    const { endpoint = 'several', reason = 'wrong-digest' } = reader.attempt.mismatch ?? {}
    reader.cut(new UpstreamError(reason, message, { endpoint }))
  }

  // Verified readers are done waiting; a failure to keep the file costs the cache entry only.
  async #keep(): Promise<boolean> {
    try {
      await this.#attempts.at(-1)!.ingest.commit()
      return true
    } catch (error) {
      this.#options.observer.storeError('commit', error)
      return false
    }
  }

  // Known before it is thrown: who comes while it is on its way begins anew, nobody would ask their
  // sources any more.
  #failed(error: Error): Error {
    this.#failure = error
    return error
  }

  #fail(error: unknown): void {
    if (error instanceof WriteFailed) this.#options.observer.storeError('write', error)
    this.#open.reject(this.#failed(this.#told(error)))
    this.#wake()
  }

  #told(error: unknown): Error {
    const { signal } = this.#abort
    const cause: unknown = signal.aborted ? signal.reason : error
    if (!(cause instanceof WriteFailed))
      return cause instanceof Error ? cause : new Error(String(cause))
    const message = 'the cache cannot be written: the log of the server says why'
    return new OciError('UNAVAILABLE', message, { cause })
  }

  #wake(): void {
    for (const reader of this.#readers) reader.wake()
  }
}

function failed(
  source: Source,
  reason: 'protocol' | 'wrong-size' | 'cut',
  what: string,
): UpstreamError {
  return new UpstreamError(reason, `${source.origin} ${what}`, { endpoint: source.origin })
}

function asUpstreamError(error: unknown, source: Source): UpstreamError {
  if (error instanceof UpstreamError) return error
  if (error instanceof TooLong) return failed(source, 'wrong-size', `sent ${error.message}`)
  const message = `${source.origin}: ${error instanceof Error ? error.message : String(error)}`
  return new UpstreamError('protocol', message, { endpoint: source.origin, cause: error })
}
