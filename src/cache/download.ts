// One fetch of one blob, owned by nobody's request: it asks its sources until the bytes are here,
// verifies them, keeps them, and feeds every reader meanwhile. A client that leaves changes nothing.
import type { Digest } from '../oci/digest.ts'
import type { Ingest } from '../store/ingest.ts'
import { OciError } from '../oci/errors.ts'
import { ContentError } from '../store/content-error.ts'
import { UpstreamError } from '../upstream/failure.ts'
import type { Source } from '../upstream/source.ts'
import { Attempt } from './attempt.ts'
import type { ByteRange } from '../http/range.ts'
import { DownloadReader, type DownloadView } from './download-reader.ts'
import { Filling } from './filling.ts'
import type { FetchOptions } from './request-choice.ts'
import type { MemoryShare } from './passing-memory.ts'
import { FileLost, WriteFailed } from './pour.ts'
import { SourceQueue } from './source-queue.ts'

/** Bytes that prove wrong are fetched again this often, or once from every source if there are more. */
const LEAST_ATTEMPTS = 2
const MOST_ATTEMPTS = 4
/** After so many bytes more, what is here is made durable, so that a crash costs no more than that. */
const CHECKPOINT_BYTES = 64 * 1024 * 1024

/** Told to clients. */
const UNREADABLE =
  'the disk of the cache fails: the log of the server says why' /** While nobody knows how long it is, the room for it is looked at so often. */
const ROOM_BYTES = 8 * 1024 * 1024

/** What passes through ends when nobody has read for so long: long enough for who is about to. */
const PASSING_IDLE_MS = 5000

/** Nobody reads any more, and nobody asked for the whole. */
class Idle extends Error {
  override readonly message = 'nobody reads it any more'
}

/** It was not tried: the file system has not so much left. */
class NoRoom extends Error {
  readonly code = 'ENOSPC'
  constructor(size: number) {
    super(`the file system has no room for ${size} bytes of a blob, which is not kept`)
  }
}

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
  readonly fetch: DownloadFetchOptions
  /** The registry whose content it is, as far as the first who asked said. */
  readonly registry: string
  createIngest(digest: Digest): Promise<Ingest>
  /** What a blob that passes through may take. */
  readonly memory: () => MemoryShare
  /** Whether so many bytes more can be kept; what cannot passes through. Default: yes. */
  readonly hasRoom?: ((bytes: number) => Promise<boolean>) | undefined
}

export interface DownloadFetchOptions extends FetchOptions {
  /** A blob of which only parts are read: fetched as a whole all the same, or only what is read. */
  readonly fill: 'onFullRead' | 'always'
  /** What nobody reads and nobody needs as a whole is given up after this time, in milliseconds. */
  readonly idleMs: number
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
  readonly #queue: SourceQueue
  readonly #readers = new Set<DownloadReader>()
  readonly #abort = new AbortController()
  readonly #open = Promise.withResolvers<void>()
  readonly #ready = Promise.withResolvers<void>()
  /** The last is the current one; the others were corrupt. */
  readonly #attempts: Attempt[] = []
  #size: number | undefined
  #suspect: boolean
  #failure: Error | undefined
  #isOver = false
  #isStopped = false
  #isWanted = false
  #checkpointAt = CHECKPOINT_BYTES
  #roomAt = ROOM_BYTES
  #filling: Filling | undefined
  #idle: NodeJS.Timeout | undefined

  constructor(options: DownloadOptions) {
    this.#options = options
    this.digest = options.digest
    this.registry = options.registry
    this.#size = options.size
    this.#isWanted = options.fetch.fill === 'always'
    this.#suspect = options.suspect
    this.#queue = new SourceQueue(options.retryDelayMs)
    this.#queue.add(options.sources)
    this.opened = this.#open.promise
    this.ready = this.#ready.promise
    for (const promise of [this.opened, this.ready]) promise.catch(() => {}) // nobody may be waiting
    this.ended = this.#run()
    this.closed = this.#allClosed()
  }

  get size(): number | undefined {
    return this.#size
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  /** Nothing can be read of it any more by who comes now. */
  get isOver(): boolean {
    return this.#isOver || this.#failure !== undefined || this.#abort.signal.aborted
  }

  /** All of it has passed through: who comes now is better off with a new one, which may be kept. */
  get isPast(): boolean {
    const attempt = this.#attempts.at(-1)
    return attempt?.window !== undefined && attempt.verified
  }

  /** What it takes of memory, where it passes through. */
  get memory(): { readonly bytes: number; readonly mostBytes: number } | undefined {
    return this.#attempts.at(-1)?.window
  }

  /** What it will still write to the disk, in bytes, as far as it is known. */
  get missingBytes(): number {
    const attempt = this.#attempts.at(-1)
    if (!attempt || attempt.window || this.isOver || !this.#isWanted) return 0
    return Math.max(0, (this.#size ?? 0) - attempt.have.bytes)
  }

  get suspect(): boolean {
    return this.#suspect
  }

  /** It has bytes that nobody was asked for in this download's life. */
  get resumed(): boolean {
    return this.#attempts[0]?.resumed === true
  }

  /** Another request's ways to the same bytes. */
  join(sources: readonly Source[]): void {
    this.#queue.add(sources)
    this.#filling?.pump()
  }

  /** A new reader; `ready` has just resolved. */
  read(): DownloadReader {
    clearTimeout(this.#idle)
    const attempt = this.#attempts.at(-1)
    if (!attempt) throw new Error('the download is not ready')
    const reader = new DownloadReader(this, attempt)
    this.#readers.add(reader)
    this.#options.observer.readersChanged(1)
    return reader
  }

  left(reader: DownloadReader): void {
    if (!this.#readers.delete(reader)) return
    this.#options.observer.readersChanged(-1)
    this.#watchIdle()
    if (this.#isPassing) this.#filling?.pump()
  }

  moved(): void {
    if (this.#isPassing) this.#filling?.pump()
  }

  planned(): void {
    for (const reader of this.#readers) if (reader.whole === true) this.#isWanted = true
    this.#filling?.pump()
  }

  lost(attempt: Attempt, error: unknown): boolean {
    if (attempt.isLost) return !this.isOver
    const isFilling = this.#filling !== undefined && attempt === this.#attempts.at(-1)
    if (!isFilling || attempt.verified) return false
    attempt.isLost = true
    this.#filling?.fail(new FileLost('what was written cannot be read again', { cause: error }))
    return true
  }

  waits(at: number): void {
    if (this.#isPassing || this.#filling?.isComing(at) === false) this.#filling?.pump()
  }

  /** What is here is made durable and noted for a later process. Never rejects. */
  async checkpoint(): Promise<void> {
    await this.#attempts
      .at(-1)
      ?.checkpoint()
      .catch((error: unknown) => this.#options.observer.storeError('checkpoint', error))
  }

  /** Ends it, for shutdown: readers are cut, what is here is left for later, nothing stays open. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#abort.abort(new OciError('UNAVAILABLE', 'the server is shutting down'))
    await this.ended
    for (const attempt of this.#attempts) await this.#release(attempt.end())
  }

  async #run(): Promise<void> {
    const { observer } = this.#options
    observer.downloadStarted()
    try {
      const attempt = await this.#fetchGood()
      if (attempt.window) await this.#serve(attempt)
      else observer.downloadEnded((await this.#keep(attempt)) ? 'kept' : 'not-kept')
    } catch (error) {
      this.#leave(error)
      this.#fail(error)
      observer.downloadEnded(this.#abort.signal.reason instanceof Idle ? 'not-kept' : 'failed')
    }
    clearTimeout(this.#idle)
    this.#isOver = true
    if (this.#isStopped) return // who stops it closes its files, whoever reads
    for (const attempt of this.#attempts) await this.#release(attempt.release())
  }

  async #allClosed(): Promise<void> {
    await this.ended
    for (const attempt of this.#attempts) await attempt.closed
  }

  async #release(released: Promise<void>): Promise<void> {
    await released.catch((error: unknown) => this.#options.observer.storeError('suspend', error))
  }

  // Half a blob is half a blob less to fetch for who comes later, unless it may be wrong.
  #leave(error: unknown): void {
    const attempt = this.#attempts.at(-1)
    const isGood = attempt && !attempt.mismatch && !attempt.window
    if (isGood && !(error instanceof WriteFailed)) attempt.leave = true
  }

  // Attempts until one has the bytes the digest names; the bad ones stay for the readers they have.
  async #fetchGood(): Promise<Attempt> {
    for (;;) {
      const attempt = await this.#begin()
      const mismatch = await this.#try(attempt)
      if (!mismatch) {
        await this.#trust(attempt)
        return attempt
      }
      if (mismatch instanceof FileLost) continue // only once: the next one has no file
      const most = Math.min(MOST_ATTEMPTS, Math.max(LEAST_ATTEMPTS, this.#queue.length))
      if (this.#attempts.filter(({ isLost }) => !isLost).length >= most) throw mismatch
    }
  }

  /** @returns why nobody may read what came, if they may not */
  async #try(attempt: Attempt): Promise<UpstreamError | FileLost | undefined> {
    try {
      if (this.#size !== undefined) await this.#makeRoom(attempt, this.#size)
      const { isKnown } = await this.#fill(attempt)
      return isKnown ? await this.#verify(attempt) : await this.#tryAsWhole(attempt)
    } catch (error) {
      if (!(error instanceof FileLost) || this.#abort.signal.aborted) throw error
      attempt.isLost = true
      this.#options.observer.storeError('write', error)
      return error
    }
  }

  // Where no file can be made, or it would not fit, the blob passes through.
  async #begin(): Promise<Attempt> {
    const { digest } = this
    const isLost = this.#attempts.some((each) => each.isLost)
    const ingest = isLost ? undefined : await this.#createIngest()
    const passes = (cause: unknown) => {
      this.#options.observer.storeError(cause instanceof NoRoom ? 'fit' : 'write', cause)
      this.#watchIdle()
      this.#filling?.pump()
    }
    const hashed = () => {
      this.#wake()
      this.#filling?.pump()
    }
    const { memory } = this.#options
    const attempt = new Attempt({ digest, ingest, memory, passes, hashed })
    this.#attempts.push(attempt)
    await Promise.all([...this.#readers].map((reader) => this.#rescue(reader, attempt)))
    return attempt
  }

  // Nobody can tell any more whether what was given of a whole is what its digest names.
  async #rescue(reader: DownloadReader, attempt: Attempt): Promise<void> {
    if (!reader.attempt.isLost) return
    const { start, end } = reader.given
    const isUnproven = reader.whole === true && end > start
    if (isUnproven) reader.cut(new OciError('UNAVAILABLE', UNREADABLE))
    else await reader.moveTo(attempt)
  }

  async #createIngest(): Promise<Ingest | undefined> {
    try {
      return await this.#options.createIngest(this.digest)
    } catch (error) {
      this.#options.observer.storeError('write', error)
      return undefined
    }
  }

  #makeRoomFor(attempt: Attempt, size: number): void {
    this.#makeRoom(attempt, size).catch((error: Error) => this.#filling?.fail(error))
  }

  // Better no byte on the disk than as many as fit.
  async #makeRoom(attempt: Attempt, size: number): Promise<void> {
    const { hasRoom } = this.#options
    const missing = size - attempt.have.bytes
    if (attempt.window || missing <= 0 || (await hasRoom?.(missing)) !== false) return
    await attempt.pass(new NoRoom(size))
  }

  // All of it was good, and some have not read all of it yet.
  async #serve(attempt: Attempt): Promise<void> {
    this.#watchIdle()
    await this.#fill(attempt, { serving: true })
  }

  get #isPassing(): boolean {
    return this.#attempts.at(-1)?.window !== undefined
  }

  /** `isKnown`: all of it came; else a source said that nothing follows, and nobody how long it is. */
  async #fill(attempt: Attempt, { serving = false } = {}): Promise<{ isKnown: boolean }> {
    const { observer, fetch } = this.#options
    const filling = new Filling({
      attempt,
      fetch,
      queue: this.#queue,
      signal: this.#abort.signal,
      size: this.#size,
      wanted: () => this.#wantedRanges(),
      // What is suspect is sent only once it is verified, and that takes all of it.
      fill: () => this.#isWanted || this.#suspect || this.#size === undefined,
      readers: () => [...this.#readers].filter((reader) => reader.attempt === attempt),
      withheld: () => this.#suspect && !attempt.verified,
      serving,
      opened: (size) => this.#opened(attempt, size),
      progress: () => this.#progress(attempt),
      failed: (error) => observer.sourceFailed(error, this.digest),
      now: () => performance.now(),
    })
    this.#filling = filling
    this.#ready.resolve()
    this.#watchIdle()
    try {
      await filling.run()
      if (this.#size === undefined && filling.size !== undefined)
        attempt.window?.sized(filling.size)
      this.#size = filling.size
      this.#open.resolve()
      return { isKnown: true }
    } catch (error) {
      if (this.#mayEnd(attempt, error)) return { isKnown: false }
      // Known before it is thrown: who comes while it is on its way begins anew, nobody would ask
      // their sources any more.
      if (serving || !(error instanceof FileLost)) this.#failure = this.#told(error)
      throw error
    } finally {
      this.#filling = undefined
    }
  }

  #mayEnd(attempt: Attempt, error: unknown): boolean {
    if (!(error instanceof UpstreamError) || this.#abort.signal.aborted) return false
    return this.#size === undefined && attempt.have.bytes > 0 && this.#queue.hasMetTheEnd
  }

  #opened(attempt: Attempt, size: number | undefined): void {
    const isNews = this.#size === undefined && size !== undefined
    this.#size = size
    this.#open.resolve()
    if (isNews) this.#makeRoomFor(attempt, size)
  }

  #progress(attempt: Attempt): void {
    this.#wake()
    const { bytes } = attempt.have
    if (this.#size === undefined && bytes >= this.#roomAt) {
      this.#roomAt = bytes + ROOM_BYTES
      // It may have no end: it gets no more than there is left for others.
      this.#makeRoomFor(attempt, 2 * bytes)
    }
    if (bytes < this.#checkpointAt) return
    this.#checkpointAt = bytes + CHECKPOINT_BYTES
    void this.checkpoint()
  }

  #wantedRanges(): ByteRange[] {
    // Who reads everything is served by filling from the front.
    const parts = [...this.#readers].filter((reader) => reader.whole === false)
    return parts.flatMap((reader) => reader.wanted ?? [])
  }

  // Parts that were read, and nobody there for more.
  #watchIdle(): void {
    clearTimeout(this.#idle)
    if (this.#readers.size > 0 || this.#isOver) return
    if (!this.#isPassing && (this.#isWanted || this.#suspect)) return
    const { idleMs } = this.#options.fetch
    this.#idle = setTimeout(
      () => {
        const isWanted = this.#isWanted && !this.#isPassing
        if (this.#readers.size === 0 && !isWanted) this.#abort.abort(new Idle())
      },
      this.#isPassing ? Math.min(idleMs, PASSING_IDLE_MS) : idleMs,
    )
    this.#idle.unref()
  }

  /** @returns why the bytes are not what the digest names, or undefined when they are */
  async #verify(attempt: Attempt): Promise<UpstreamError | undefined> {
    try {
      await attempt.verify(this.#size)
      return undefined
    } catch (error) {
      if (!(error instanceof ContentError))
        throw new FileLost('what was written cannot be read again', { cause: error })
      return await this.#distrust(attempt, error)
    }
  }

  /**
   * A source has nothing behind what is here: that is all, or there is too much, or the source is at
   * fault. Where it is not all, begun anew: what is here can only fail again.
   */
  async #tryAsWhole(attempt: Attempt): Promise<UpstreamError | undefined> {
    const size = attempt.frontier
    try {
      await attempt.verify(size)
    } catch (error) {
      if (!(error instanceof ContentError))
        throw new FileLost('what was written cannot be read again', { cause: error })
      this.#queue.forgetTheEnd()
      return await this.#discard(attempt, error)
    }
    this.#size = size
    this.#open.resolve()
    return undefined
  }

  async #distrust(attempt: Attempt, cause: ContentError): Promise<UpstreamError> {
    const error = await this.#discard(attempt, cause)
    if (attempt.resumed) return error
    for (const source of attempt.sources) this.#queue.lied(source, error)
    // Of several, who it was shows when a good copy is here.
    if (attempt.sources.size === 1)
      this.#options.observer.verificationFailed(error.endpoint, this.digest)
    return error
  }

  /** Its readers wait for a better one. */
  async #discard(attempt: Attempt, cause: ContentError): Promise<UpstreamError> {
    this.#suspect = true
    this.#size = this.#options.size
    const origins = [...new Set([...attempt.sources].map((source) => source.origin))]
    if (attempt.resumed) origins.push('an earlier download')
    const error = new UpstreamError(
      cause.reason,
      `${origins.join(', ')} brought bytes that are not ${this.digest}: nothing was kept`,
      { endpoint: origins.length === 1 && !attempt.resumed ? origins[0]! : 'several', cause },
    )
    attempt.mismatch = error
    await attempt.abort().catch((e: unknown) => this.#options.observer.storeError('abort', e))
    return error
  }

  async #trust(attempt: Attempt): Promise<void> {
    attempt.verified = true
    this.#suspect = false
    this.#wake()
    const behind = [...this.#readers].filter((reader) => reader.attempt !== attempt)
    await Promise.all(behind.map((reader) => this.#judge(reader, attempt)))
    for (const bad of this.#attempts) if (bad !== attempt) await this.#blame(bad, attempt)
  }

  // Of several who gave bytes, those lied whose bytes differ from the good ones.
  async #blame(bad: Attempt, good: Attempt): Promise<void> {
    if (bad.sources.size < 2 && !bad.resumed) return
    if (bad.window || good.window) return // what they gave is not here any more
    const liars = new Set<string>()
    for (const { source, range } of bad.spans) {
      const same = await good.agrees(bad, range.start, range.end).catch(() => true)
      if (!same) liars.add(source.origin)
    }
    for (const origin of liars) this.#options.observer.verificationFailed(origin, this.digest)
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
  async #keep(attempt: Attempt): Promise<boolean> {
    try {
      await attempt.commit()
      return true
    } catch (error) {
      this.#options.observer.storeError('commit', error)
      return false
    }
  }

  #fail(error: unknown): void {
    if (error instanceof WriteFailed) this.#options.observer.storeError('write', error)
    const told = this.#told(error)
    this.#failure = told
    this.#open.reject(told)
    this.#ready.reject(told)
    this.#wake()
  }

  #told(error: unknown): Error {
    const { signal } = this.#abort
    const cause: unknown = signal.aborted ? signal.reason : error
    if (!(cause instanceof WriteFailed))
      return cause instanceof Error ? cause : new Error(String(cause))
    return new OciError('UNAVAILABLE', UNREADABLE, { cause })
  }

  #wake(): void {
    for (const reader of this.#readers) reader.wake()
  }
}
