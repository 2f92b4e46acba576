// One fetch of one blob, owned by nobody's request: readers come and go while it is filled, verified
// and kept. A client that leaves changes nothing; only when nobody needs it any more it ends early.
import type { Digest } from '../../oci/digest.ts'
import { OciError } from '../../oci/errors.ts'
import type { LeaveOptions } from '../../store/ingest/ingest.ts'
import type { Source } from '../../upstream/face/source.ts'
import type { Attempt } from '../fetch/attempt.ts'
import { Attempts } from './attempts.ts'
import { BlobKeeping } from './keeping.ts'
import type { DownloadOptions } from './options.ts'
import { DownloadReader, type DownloadView } from './reader.ts'
import { DownloadReaders, UNREADABLE } from './readers.ts'
import { faultIn } from '../policy/failure.ts'
import { WriteFailed } from '../fetch/write-body.ts'

/** What passes through ends when nobody has read for so long: long enough for who is about to. */
const PASSING_IDLE_MS = 5000

/** Nobody reads any more, and nobody asked for the whole. */
class Idle extends Error {
  override readonly message = 'nobody reads it any more'
}

export class Download implements DownloadView {
  readonly digest: Digest
  readonly registry: string
  /** Resolves when it can be read from; rejects where no file can be made. */
  readonly ready: Promise<void>
  /** Resolves when an upstream has begun to answer; rejects with the reason when none will. */
  readonly opened: Promise<void>
  /** Resolves when the download is over and its file kept or given up; never rejects. */
  readonly ended: Promise<void>
  /** Resolves when it is over and no reader holds a file of it any more; never rejects. */
  readonly closed: Promise<void>
  readonly #options: DownloadOptions
  readonly #readers: DownloadReaders
  readonly #keeping: BlobKeeping
  readonly #attempts: Attempts
  readonly #abort = new AbortController()
  readonly #open = Promise.withResolvers<void>()
  readonly #ready = Promise.withResolvers<void>()
  #failure: Error | undefined
  #isOver = false
  #isStopped = false
  /** All of it is to come, whoever reads. */
  #isWanted: boolean
  #idle: NodeJS.Timeout | undefined

  constructor(options: DownloadOptions) {
    this.#options = options
    this.digest = options.digest
    this.registry = options.registry
    this.#isWanted = options.fetch.fill === 'always'
    this.#readers = new DownloadReaders(options.observer)
    this.#keeping = new BlobKeeping(options)
    this.#attempts = this.#newAttempts()
    this.opened = this.#open.promise
    this.ready = this.#ready.promise
    for (const promise of [this.opened, this.ready]) promise.catch(() => {}) // nobody may be waiting
    this.ended = this.#run()
    this.closed = this.#allClosed()
  }

  get size(): number | undefined {
    return this.#attempts.size
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  get suspect(): boolean {
    return this.#attempts.suspect
  }

  /** Nothing can be read of it any more by who comes now. */
  get isOver(): boolean {
    return this.#isOver || this.#failure !== undefined || this.#abort.signal.aborted
  }

  /** All of it has passed through: who comes now is better off with a new one, which may be kept. */
  get isPast(): boolean {
    const attempt = this.#attempts.current
    return attempt?.window !== undefined && attempt.verified
  }

  /** What it takes of memory, where it passes through. */
  get memory(): { readonly bytes: number; readonly mostBytes: number } | undefined {
    return this.#attempts.current?.window
  }

  /** What it will still write to the disk, in bytes, as far as it is known. */
  get missingBytes(): number {
    const attempt = this.#attempts.current
    if (!attempt || attempt.window || this.isOver || !this.#isWanted) return 0
    return Math.max(0, (this.size ?? 0) - attempt.have.bytes)
  }

  /** It has bytes that nobody was asked for in this download's life. */
  get resumed(): boolean {
    return this.#attempts.all[0]?.resumed === true
  }

  /** More sources for the same bytes. */
  join(sources: readonly Source[]): void {
    this.#attempts.join(sources)
  }

  /**
   * A new reader: at once where there is something to read from, so that the download cannot be over
   * before it is taken; else as soon as there is. Rejects as `ready` does.
   */
  async reader(): Promise<DownloadReader> {
    if (this.#attempts.current === undefined) await this.ready
    return this.read()
  }

  /** A new reader; `ready` has just resolved. */
  read(): DownloadReader {
    clearTimeout(this.#idle)
    const attempt = this.#attempts.current
    if (!attempt) throw new Error('the download is not ready')
    const reader = new DownloadReader(this, attempt)
    this.#readers.add(reader)
    return reader
  }

  left(reader: DownloadReader): void {
    if (!this.#readers.remove(reader)) return
    this.#watchIdle()
    this.moved()
  }

  moved(): void {
    if (this.#isPassing) this.#attempts.pump()
  }

  planned(): void {
    this.#isWanted ||= this.#readers.isWholeWanted
    this.#attempts.planned()
  }

  waits(at: number): void {
    if (this.#isPassing || !this.#attempts.isComing(at)) this.#attempts.pump()
  }

  lost(attempt: Attempt, error: unknown): boolean {
    return attempt.isLost ? !this.isOver : this.#attempts.lost(attempt, error)
  }

  /** What is here is made durable and noted for a later process. Never rejects. */
  async checkpoint(): Promise<void> {
    const attempt = this.#attempts.current
    if (attempt) await this.#keeping.checkpoint(attempt)
  }

  /** It can be handed over: nothing of it is being made, verified or kept. */
  get isFilling(): boolean {
    return this.#isOver || this.#attempts.isFilling
  }

  /**
   * For when another server gets the directory: nothing is written any more, and what is here is left. Who
   * reads it reads on, what is still to come passes through memory. Never rejects: failures are reported.
   */
  async handOver(options: LeaveOptions): Promise<void> {
    await this.#attempts.handOver(options)
  }

  /** Ends it, for shutdown: readers are cut, what is here is left for later, nothing stays open. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#abort.abort(new OciError('UNAVAILABLE', 'the server is shutting down'))
    await this.ended
    for (const attempt of this.#attempts.all) await this.#release(attempt.end())
  }

  #newAttempts(): Attempts {
    return new Attempts(this.#options, {
      readers: this.#readers,
      keeping: this.#keeping,
      signal: this.#abort.signal,
      isWanted: () => this.#isWanted,
      began: () => {
        this.#ready.resolve()
        this.#watchIdle()
      },
      opened: () => this.#open.resolve(),
      passes: () => this.#watchIdle(),
      failed: (error) => (this.#failure = this.#told(error)),
    })
  }

  async #run(): Promise<void> {
    const { observer } = this.#options
    observer.downloadStarted()
    try {
      const attempt = await this.#attempts.good()
      if (attempt.window) await this.#serve(attempt)
      else observer.downloadEnded((await this.#keeping.commit(attempt)) ? 'kept' : 'not-kept')
    } catch (error) {
      this.#leave(error)
      this.#fail(error)
      observer.downloadEnded(this.#abort.signal.reason instanceof Idle ? 'not-kept' : 'failed')
    }
    clearTimeout(this.#idle)
    this.#isOver = true
    if (this.#isStopped) return // who stops it closes its files, whoever reads
    for (const attempt of this.#attempts.all) attempt.retire()
    for (const attempt of this.#attempts.all) await this.#release(attempt.release())
  }

  async #allClosed(): Promise<void> {
    await this.ended
    for (const attempt of this.#attempts.all) await attempt.closed
  }

  async #release(released: Promise<void>): Promise<void> {
    await released.catch((error: unknown) => this.#options.observer.storeError('suspend', error))
  }

  // All of it was good, and some have not read all of it yet.
  async #serve(attempt: Attempt): Promise<void> {
    this.#watchIdle()
    await this.#attempts.serve(attempt)
  }

  // Half a blob is half a blob less to fetch for who comes later, unless it may be wrong.
  #leave(error: unknown): void {
    const attempt = this.#attempts.current
    const isGood = attempt && !attempt.mismatch && !attempt.window
    if (isGood && !(error instanceof WriteFailed)) attempt.leave = true
  }

  #fail(error: unknown): void {
    if (error instanceof WriteFailed) this.#options.observer.storeError('write', error)
    const told = this.#told(error)
    const fault = told instanceof Idle ? undefined : faultIn(told)
    if (fault !== undefined) this.#options.observer.unexpectedError?.('download', fault)
    this.#failure = told
    this.#open.reject(told)
    this.#ready.reject(told)
    this.#readers.wake()
  }

  #told(error: unknown): Error {
    const { signal } = this.#abort
    const cause: unknown = signal.aborted ? signal.reason : error
    if (!(cause instanceof WriteFailed))
      return cause instanceof Error ? cause : new Error(String(cause))
    return new OciError('UNAVAILABLE', UNREADABLE, { cause })
  }

  get #isPassing(): boolean {
    return this.#attempts.current?.window !== undefined
  }

  // Parts that were read, and nobody there for more.
  #watchIdle(): void {
    clearTimeout(this.#idle)
    if (this.#readers.size > 0 || this.#isOver) return
    if (!this.#isPassing && (this.#isWanted || this.suspect)) return
    const { idleMs } = this.#options.fetch
    const end = () => {
      const isWanted = this.#isWanted && !this.#isPassing
      if (this.#readers.size === 0 && !isWanted) this.#abort.abort(new Idle())
    }
    this.#idle = setTimeout(end, this.#isPassing ? Math.min(idleMs, PASSING_IDLE_MS) : idleMs)
    this.#idle.unref()
  }
}
