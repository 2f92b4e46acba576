// A download fetches one blob for any number of readers. It belongs to no request: readers come and go.
//
//              wrong bytes: start again with other sources
//            ┌──────────────────────────────┐
//            ▼                              │
//   start ─► filling ─► verifying ──────────┤
//            │   │           └─► committing ─► kept, or not-kept
//            │   ├─ the disk fails ─► bypassing ─► not-kept
//            │   └─ no source is left ─► failed
//            └─ nobody reads parts any more ─► not-kept
//
// filling     Bytes arrive in any order; readers follow, each at its own pace.          #fill()
// verifying   Every byte is here and the digest is being checked. Readers of a whole
//             blob do not get its last 64 KiB before this has succeeded.                #verify()
// committing  fsync, rename, fsync of the directory; readers are not affected.          #commit()
// bypassing   Nothing can be written. Readers are fed from memory, and nothing is
//             kept. Entered from filling, also where the finished file cannot be read
//             to be verified; there is no way back.                                     #bypassDisk()
//
// Invariant: a reader never sees two different bytes at one offset, whatever the transitions.
import type { Digest } from '../../oci/digest.ts'
import { OciError } from '../../oci/errors.ts'
import type { ContentError } from '../../store/ingest/content-error.ts'
import type { LeaveOptions } from '../../store/ingest/ingest.ts'
import { leastFinal, UpstreamError } from '../../upstream/face/failure.ts'
import type { Source } from '../../upstream/face/source.ts'
import { Bypass } from '../bypass/bypass.ts'
import { Attempt, type FileLeft } from '../fetch/attempt.ts'
import { corruptOrigins, mismatchError, verificationError } from '../fetch/errors.ts'
import { Fetch } from '../fetch/fetch.ts'
import { SizeClaims } from '../fetch/size-claims.ts'
import { SourceQueue } from '../fetch/source-queue.ts'
import { FileLost, WriteFailed } from '../fetch/write-body.ts'
import { faultIn } from '../policy/failure.ts'
import { BlobKeeping, DirectoryYielded, NoRoom } from './keeping.ts'
import type { DownloadOptions } from './options.ts'
import { DownloadReader, type DownloadView, unverifiedEnd } from './reader.ts'
import { DownloadReaders, unreadable } from './readers.ts'

/** A bypass ends when nobody has read for this long, in milliseconds: enough for a reader that is about to. */
const BYPASS_IDLE_MS = 5000
/** Bytes that prove wrong are fetched again this often, or once from every source if there are more. */
const MIN_ATTEMPTS = 2
const MAX_ATTEMPTS = 4

export type DownloadState =
  | 'filling'
  | 'verifying'
  | 'committing'
  | 'bypassing'
  | 'kept'
  | 'not-kept'
  | 'failed'

/** Nobody reads any more, and nobody asked for the whole. */
class Idle extends Error {
  override readonly message = 'nobody reads it any more'
}

export class Download implements DownloadView {
  readonly digest: Digest
  readonly registry: string
  /** Resolves when it can be read from; rejects where that will never be. */
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
  readonly #queue: SourceQueue
  readonly #abort = new AbortController()
  readonly #open = Promise.withResolvers<void>()
  readonly #ready = Promise.withResolvers<void>()
  /** Resolves when nothing is written any more. */
  readonly #bypassed = Promise.withResolvers<void>()
  #state: DownloadState = 'filling'
  /** The last is the current one; the others were corrupt. */
  readonly #attempts: Attempt[] = []
  /** Present while bytes arrive in a file. */
  #fetch: Fetch | undefined
  #bypass: Bypass | undefined
  readonly #claims = new SizeClaims()
  #size: number | undefined
  /** Bytes of this digest were wrong before, and no good ones are here yet. */
  #suspect: boolean
  #failure: Error | undefined
  #isStopped = false
  /** All of it is to come, whoever reads. */
  #isWanted: boolean
  #idle: NodeJS.Timeout | undefined

  constructor(options: DownloadOptions) {
    this.#options = options
    this.digest = options.digest
    this.registry = options.registry
    this.#claims.add(options.claimedSize)
    this.#suspect = options.suspect
    this.#isWanted = options.fetch.fill === 'always'
    this.#readers = new DownloadReaders(options.observer)
    this.#keeping = new BlobKeeping(options)
    this.#queue = new SourceQueue(options.retryDelayMs)
    this.#queue.add(options.sources)
    this.opened = this.#open.promise
    this.ready = this.#ready.promise
    for (const promise of [this.opened, this.ready]) promise.catch(() => {}) // nobody may be waiting
    this.ended = this.#run()
    this.closed = this.#allClosed()
  }

  get state(): DownloadState {
    return this.#state
  }

  /** In bytes, once an upstream has announced it or the digest has shown it; never a manifest's claim. */
  get size(): number | undefined {
    return this.#bypass ? this.#bypass.size : this.#size
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  get suspect(): boolean {
    return this.#bypass ? this.#bypass.isSuspect : this.#suspect
  }

  /** Whoever comes now can read nothing of it. */
  get isOver(): boolean {
    return this.#isEnded || this.#failure !== undefined || this.#abort.signal.aborted
  }

  /** Its beginning is gone: whoever comes now is better off with a new download, which may be kept. */
  get isPast(): boolean {
    return this.#bypass?.isPast === true
  }

  /** The memory that it holds, in bytes. */
  get memoryBytes(): number {
    return this.#bypass?.bytes ?? 0
  }

  /** What it will still write to the disk, in bytes, as far as it is known. */
  get missingBytes(): number {
    const attempt = this.#attempts.at(-1)
    if (!attempt || this.#state === 'bypassing' || this.isOver || !this.#isWanted) return 0
    return Math.max(0, (this.size ?? 0) - attempt.have.bytes)
  }

  /** It has bytes that no source was asked for in this download's life. */
  get resumed(): boolean {
    return this.#attempts[0]?.isResumed === true
  }

  /** Whether it can be handed over: nothing of it is being made, verified or kept. */
  get isFilling(): boolean {
    return this.#isEnded || this.#fetch !== undefined || this.#bypass !== undefined
  }

  /** Adds sources of the same bytes, and the size in bytes that the joining reader's manifest claims. */
  join(sources: readonly Source[], claimedSize: number | undefined): void {
    this.#claims.add(claimedSize)
    this.#queue.add(sources)
    this.#fetch?.pump()
    this.#bypass?.joined()
  }

  /**
   * A new reader: at once where there is something to read from, so that the download cannot be over
   * before it is taken; else as soon as there is. `claimedSize` is what the reader's own manifest says,
   * in bytes. Rejects as `ready` does.
   */
  async reader(claimedSize?: number): Promise<DownloadReader> {
    if (this.#attempts.length === 0 && !this.#bypass) await this.ready
    return this.read(claimedSize)
  }

  /** A new reader; `ready` has just resolved. */
  read(claimedSize?: number): DownloadReader {
    clearTimeout(this.#idle)
    const attempt = this.#attempts.at(-1)
    if (!attempt && !this.#bypass) throw new Error('the download is not ready')
    const reader = new DownloadReader(this, attempt, claimedSize)
    this.#readers.add(reader)
    if (this.#bypass) reader.follow(this.#bypass)
    return reader
  }

  left(reader: DownloadReader): void {
    if (this.#readers.remove(reader)) this.#watchIdle()
  }

  planned(): void {
    this.#isWanted ||= this.#readers.isWholeWanted
    this.#fetch?.planned()
  }

  waits(at: number): void {
    if (this.#fetch?.isComing(at) === false) this.#fetch.pump()
  }

  lost(attempt: Attempt, cause: unknown): boolean {
    if (attempt.isLost) return !this.isOver
    if (!this.#fetch || attempt !== this.#attempts.at(-1)) return false
    attempt.isLost = true
    this.#fetch.fail(new FileLost('what was written cannot be read again', { cause }))
    return true
  }

  /** Makes what is here durable, and notes it for a later process. Never rejects. */
  async checkpoint(): Promise<void> {
    const attempt = this.#attempts.at(-1)
    if (attempt && this.#state !== 'bypassing') await this.#keeping.checkpoint(attempt)
  }

  /**
   * For when another server gets the directory: nothing is written any more, and what is good is left. Its
   * readers read on; what is still to come bypasses the disk. Never rejects: failures are reported.
   */
  async handOver(options: LeaveOptions): Promise<void> {
    if (this.#fetch) {
      this.#fetch.fail(new DirectoryYielded())
      await Promise.race([this.#bypassed.promise, this.ended])
    }
    for (const attempt of this.#attempts) {
      if (attempt.leave) await this.#keeping.leave(attempt, options)
      else await this.#keeping.discard(attempt)
    }
  }

  /** Ends it, for shutdown: readers are cut, what is here is left for later, nothing stays open. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#abort.abort(new OciError('UNAVAILABLE', 'the server is shutting down'))
    await this.ended
    for (const attempt of this.#attempts) await this.#release(attempt.end())
  }

  get #isEnded(): boolean {
    return this.#state === 'kept' || this.#state === 'not-kept' || this.#state === 'failed'
  }

  async #run(): Promise<void> {
    const { observer } = this.#options
    observer.downloadStarted()
    let outcome: 'kept' | 'not-kept' | 'failed'
    try {
      outcome = await this.#fillAndKeep()
    } catch (error) {
      this.#fail(error)
      outcome = this.#abort.signal.reason instanceof Idle ? 'not-kept' : 'failed'
    }
    observer.downloadEnded(outcome)
    clearTimeout(this.#idle)
    this.#state = outcome
    if (this.#isStopped) return // who stops it closes its files, whoever reads
    for (const attempt of this.#attempts) await this.#release(attempt.release())
  }

  async #fillAndKeep(): Promise<'kept' | 'not-kept'> {
    let outdated = 0
    for (;;) {
      const attempt = await this.#begin()
      if (!attempt) return await this.#bypassDisk(undefined)
      const { expected } = this.#claims
      try {
        await this.#fill(attempt)
        const mismatch = await this.#verify(attempt)
        if (!mismatch) return await this.#commit(attempt)
        // It may have ended where a claim said. A reader that joined meanwhile claims another size.
        if (this.#claims.expected !== expected && outdated < MAX_ATTEMPTS) outdated += 1
        const most = Math.min(MAX_ATTEMPTS, Math.max(MIN_ATTEMPTS, this.#queue.length))
        if (this.#attempts.length - outdated >= most)
          throw leastFinal([...this.#queue.errors, mismatch])
      } catch (error) {
        if (!(error instanceof WriteFailed) || this.#abort.signal.aborted) throw error
        return await this.#bypassDisk(attempt, error)
      }
    }
  }

  /** Returns undefined where no file can be made. */
  async #begin(): Promise<Attempt | undefined> {
    this.#state = 'filling'
    try {
      const attempt = new Attempt(await this.#options.createIngest(this.digest))
      this.#attempts.push(attempt)
      // An earlier download left more than is claimed: nobody knows which is wrong.
      if (attempt.extent > (this.#claims.expected ?? Infinity)) this.#claims.refute()
      return attempt
    } catch (error) {
      this.#options.observer.storeError('write', error)
      return undefined
    }
  }

  /**
   * Fetches every byte. Where no upstream announces a size, it ends with what may be every byte: a source
   * says that nothing follows, or as much is here as manifests claim.
   */
  async #fill(attempt: Attempt): Promise<void> {
    const fetch = this.#newFetch(attempt)
    this.#fetch = fetch
    this.#ready.resolve()
    this.#watchIdle()
    try {
      await fetch.run()
      this.#size = fetch.size
    } catch (error) {
      if (this.#mayBeAll(attempt, error)) return
      // Record before throwing: a client that joins in between must start a new download.
      if (!(error instanceof WriteFailed)) this.#failure = this.#told(error)
      throw error
    } finally {
      this.#fetch = undefined
    }
  }

  #newFetch(attempt: Attempt): Fetch {
    const { digest, observer, fetch } = this.#options
    const readers = this.#readers
    // Bytes that are suspect or in dispute are sent only once they are verified, and that takes all of them.
    const isVerdictAwaited = () => this.#suspect || readers.isDisputed
    const isSizeExpected = () => (this.#size ?? this.#claims.expected) !== undefined
    const isWhole = () => this.#isWanted || isVerdictAwaited() || !isSizeExpected()
    return new Fetch({
      attempt,
      fetch,
      queue: this.#queue,
      signal: this.#abort.signal,
      claims: this.#claims,
      demand: {
        get isWhole() {
          return isWhole()
        },
        get wanted() {
          return readers.wanted
        },
        get upcoming() {
          return readers.upcoming
        },
      },
      opened: (size) => this.#opened(attempt, size),
      progress: () => this.#progress(attempt),
      failed: (error) => observer.sourceFailed(error, digest),
      now: () => performance.now(),
    })
  }

  #opened(attempt: Attempt, size: number | undefined): void {
    const isNews = this.#size === undefined && size !== undefined
    this.#size = size
    this.#open.resolve()
    if (!isNews) return
    this.#readers.wake() // a response that was planned by a claim may have to be planned anew
    this.#watchRoom(this.#keeping.checkRoom(attempt, size))
  }

  #progress(attempt: Attempt): void {
    this.#readers.wake()
    this.#watchRoom(this.#keeping.grown(attempt, this.#size))
  }

  #watchRoom(check: Promise<void> | undefined): void {
    check?.catch((error: Error) => this.#fetch?.fail(error))
  }

  /** A source says that nothing follows what is here, and nobody how long the blob is. */
  #mayBeAll(attempt: Attempt, error: unknown): boolean {
    if (!(error instanceof UpstreamError) || this.#abort.signal.aborted) return false
    return this.#size === undefined && attempt.have.bytes > 0 && this.#queue.hasMetTheEnd
  }

  /** Returns why the bytes are not what the digest names, or undefined when they are. */
  async #verify(attempt: Attempt): Promise<UpstreamError | undefined> {
    this.#state = 'verifying'
    const size = this.#size ?? attempt.contiguousEnd
    const wrong = await verificationError(attempt, size)
    if (wrong) return await this.#distrust(attempt, wrong)
    this.#size = size
    this.#open.resolve()
    await this.#trust(attempt)
    return undefined
  }

  async #distrust(attempt: Attempt, cause: ContentError): Promise<UpstreamError> {
    const isSized = this.#size !== undefined
    const error = await this.#discard(attempt, cause)
    if (!isSized) this.#queue.forgetTheEnd()
    if (attempt.isResumed) return error
    for (const source of attempt.sources) this.#queue.corrupt(source, error)
    // Which of several it was shows when a good copy is here, and so it does whether any byte was wrong
    // where nobody announced how many there are.
    const { digest, observer } = this.#options
    attempt.isSourceNamed = isSized && attempt.sources.size === 1
    if (attempt.isSourceNamed) observer.verificationFailed(error.endpoint, digest)
    return error
  }

  /** Reports whether an upstream has announced a size that every manifest contradicts. */
  get #isSizeDoubtful(): boolean {
    return this.#size !== undefined && this.#claims.contradict(this.#size)
  }

  /** Its readers wait for a better one. */
  async #discard(attempt: Attempt, cause: ContentError): Promise<UpstreamError> {
    this.#suspect = true
    const reason = this.#isSizeDoubtful ? 'wrong-size' : cause.reason
    this.#size = undefined
    const error = mismatchError(attempt, cause, reason)
    attempt.mismatch = error
    await this.#keeping.discard(attempt)
    return error
  }

  async #trust(attempt: Attempt): Promise<void> {
    attempt.isVerified = true
    this.#suspect = false
    this.#readers.wake()
    await this.#readers.judge(attempt, this.#size)
    const { digest, observer } = this.#options
    for (const error of this.#queue.wrongSizes(this.#size)) observer.sourceFailed(error, digest)
    for (const bad of this.#attempts.slice(0, -1)) {
      for (const origin of await corruptOrigins(bad, attempt)) {
        observer.verificationFailed(origin, digest)
      }
    }
  }

  async #commit(attempt: Attempt): Promise<'kept' | 'not-kept'> {
    this.#state = 'committing'
    return (await this.#keeping.commit(attempt)) ? 'kept' : 'not-kept'
  }

  /** Feeds its readers from memory until the last has left. Throws the reason for which that ends. */
  async #bypassDisk(attempt: Attempt | undefined, cause?: WriteFailed): Promise<never> {
    if (cause) this.#reportWrite(cause)
    const file = attempt && cause && (await this.#fileLeft(attempt, cause))
    if (attempt && file && cause instanceof DirectoryYielded) attempt.leave = true
    this.#state = 'bypassing'
    const bypass = this.#newBypass(file)
    this.#bypass = bypass
    this.#readers.bypass(bypass, attempt, file !== undefined)
    this.#bypassed.resolve()
    this.#ready.resolve()
    this.#watchIdle()
    return await bypass.run(this.#abort.signal)
  }

  #reportWrite(error: WriteFailed): void {
    const { observer } = this.#options
    if (error instanceof DirectoryYielded) return
    if (error instanceof NoRoom) observer.storeError('fit', error)
    else observer.storeError('write', error instanceof FileLost ? error : error.cause)
  }

  /** What was written of it, where that can be read. */
  async #fileLeft(attempt: Attempt, cause: WriteFailed): Promise<FileLeft | undefined> {
    if (cause instanceof FileLost) return undefined
    try {
      return await attempt.endWriting()
    } catch (error) {
      this.#options.observer.storeError('write', error)
      return undefined
    }
  }

  #newBypass(file: FileLeft | undefined): Bypass {
    const { digest, observer, fetch, memory } = this.#options
    return new Bypass({
      digest,
      file,
      memory,
      unverifiedEnd,
      queue: this.#queue,
      size: this.#size,
      claims: this.#claims,
      suspect: this.#suspect,
      maxDirectReads: Math.max(1, fetch.maxConnections - 1),
      opened: () => this.#open.resolve(),
      sourceFailed: (error) => observer.sourceFailed(error, digest),
      verificationFailed: (endpoint) => observer.verificationFailed(endpoint, digest),
      fileLost: (error) => observer.storeError('write', error),
      unreadable: () => unreadable(),
      now: () => performance.now(),
    })
  }

  #fail(error: unknown): void {
    const told = this.#told(error)
    this.#leaveGood(error)
    if (error instanceof WriteFailed) this.#options.observer.storeError('write', error)
    const fault = told instanceof Idle ? undefined : faultIn(told)
    if (fault !== undefined) this.#options.observer.unexpectedError?.('download', fault)
    this.#failure = told
    this.#open.reject(told)
    this.#ready.reject(told)
    this.#readers.wake()
  }

  // Half a blob is half a blob less to fetch for who comes later, unless it may be wrong.
  #leaveGood(error: unknown): void {
    const attempt = this.#attempts.at(-1)
    if (!attempt || attempt.mismatch || this.#bypass || error instanceof WriteFailed) return
    if (this.#isSizeDoubtful) return // nobody knows which of its bytes belong to the blob
    attempt.leave = true
  }

  #told(error: unknown): Error {
    const { signal } = this.#abort
    const cause: unknown = signal.aborted ? signal.reason : error
    if (cause instanceof WriteFailed) return unreadable(cause)
    return cause instanceof Error ? cause : new Error(String(cause))
  }

  async #allClosed(): Promise<void> {
    await this.ended
    for (const attempt of this.#attempts) await attempt.closed
  }

  async #release(released: Promise<void>): Promise<void> {
    await released.catch((error: unknown) => this.#options.observer.storeError('suspend', error))
  }

  // Parts were read, and nobody is there for more.
  #watchIdle(): void {
    clearTimeout(this.#idle)
    const isBypassing = this.#bypass !== undefined
    if (this.#readers.size > 0 || this.#isEnded) return
    if (!isBypassing && (this.#isWanted || this.suspect)) return
    const { idleMs } = this.#options.fetch
    const end = () => {
      const isWanted = this.#isWanted && this.#bypass === undefined
      if (this.#readers.size === 0 && !isWanted) this.#abort.abort(new Idle())
    }
    this.#idle = setTimeout(end, isBypassing ? Math.min(idleMs, BYPASS_IDLE_MS) : idleMs)
    this.#idle.unref()
  }
}
