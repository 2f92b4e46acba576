// Tries at one blob, until one has the bytes that its digest names. A bad one stays for the readers it
// has; the next begins anew, and what a source said of the size is not believed any more.
import type { ContentError } from '../../store/ingest/content-error.ts'
import type { Ingest, LeaveOptions } from '../../store/ingest/ingest.ts'
import { leastFinal, UpstreamError } from '../../upstream/face/failure.ts'
import type { Source } from '../../upstream/face/source.ts'
import { Attempt } from '../fetch/attempt.ts'
import { liarsOf, mismatchOf, wrongIn } from '../fetch/blame.ts'
import { type BlobKeeping, HandedOver, NoRoom } from './keeping.ts'
import type { DownloadOptions } from './options.ts'
import type { DownloadReaders } from './readers.ts'
import { Filling } from '../fetch/fetch.ts'
import { FileLost } from '../fetch/write-body.ts'
import { SourceQueue } from '../fetch/source-queue.ts'

/** Bytes that prove wrong are fetched again this often, or once from every source if there are more. */
const LEAST_ATTEMPTS = 2
const MOST_ATTEMPTS = 4

/** The download whose attempts they are. */
export interface AttemptsOwner {
  readonly readers: DownloadReaders
  readonly keeping: BlobKeeping
  readonly signal: AbortSignal
  /** All of it is to come, whoever reads. */
  readonly isWanted: () => boolean
  /** An attempt can be read from. */
  readonly began: () => void
  /** An upstream answers. */
  readonly opened: () => void
  /** From here on it passes through. */
  readonly passes: () => void
  /** Nothing more will come, because of this; called before it is thrown. */
  readonly failed: (error: unknown) => void
}

export class Attempts {
  readonly #options: DownloadOptions
  readonly #owner: AttemptsOwner
  readonly #queue: SourceQueue
  /** The last is the current one; the others were corrupt. */
  readonly #attempts: Attempt[] = []
  #filling: Filling | undefined
  #size: number | undefined
  #suspect: boolean
  #isHandedOver = false

  constructor(options: DownloadOptions, owner: AttemptsOwner) {
    this.#options = options
    this.#owner = owner
    this.#size = options.size
    this.#suspect = options.suspect
    this.#queue = new SourceQueue(options.retryDelayMs)
    this.#queue.add(options.sources)
  }

  get all(): readonly Attempt[] {
    return this.#attempts
  }

  /** The one that fills now, or did last. */
  get current(): Attempt | undefined {
    return this.#attempts.at(-1)
  }

  /** Of the blob, in bytes, where it is known. */
  get size(): number | undefined {
    return this.#size
  }

  /** Bytes of this digest were wrong before, and no good ones are here yet. */
  get suspect(): boolean {
    return this.#suspect
  }

  /** More sources for the same bytes. */
  join(sources: readonly Source[]): void {
    this.#queue.add(sources)
    this.pump()
  }

  /** A reader said what it will read. */
  planned(): void {
    this.#filling?.planned()
  }

  /** Looks at what is to be asked for: readers wait, moved or left. */
  pump(): void {
    this.#filling?.pump()
  }

  /** Whether a request is about to bring the byte at `at`; of one that does not fill it is true. */
  isComing(at: number): boolean {
    return this.#filling?.isComing(at) !== false
  }

  /** Its file cannot be read. @returns whether there is another way to its bytes */
  lost(attempt: Attempt, cause: unknown): boolean {
    const isFilling = this.#filling !== undefined && attempt === this.current
    if (!isFilling || attempt.verified) return false
    attempt.isLost = true
    this.#filling?.fail(new FileLost('what was written cannot be read again', { cause }))
    return true
  }

  /** Bytes arrive: none is being made, verified or kept. */
  get isFilling(): boolean {
    return this.#filling !== undefined
  }

  /** Nothing is written from here on: what is good is left for another process, the rest passes through. */
  async handOver(options: LeaveOptions): Promise<void> {
    this.#isHandedOver = true
    const { keeping } = this.#owner
    for (const attempt of this.#attempts) {
      const isFilling = this.isFilling && attempt === this.current && !attempt.window
      if (isFilling) attempt.leave = await keeping.endWriting(attempt)
      if (attempt.leave) await keeping.leave(attempt, options)
      else await keeping.discard(attempt)
    }
  }

  /** Resolves with the first good one. @throws the least final of the sources' failures, or what kept it from being filled */
  async good(): Promise<Attempt> {
    for (;;) {
      const attempt = await this.#begin()
      const mismatch = await this.#try(attempt)
      if (!mismatch) {
        await this.#trust(attempt)
        return attempt
      }
      if (mismatch instanceof FileLost) continue // only once: the next one has no file
      const most = Math.min(MOST_ATTEMPTS, Math.max(LEAST_ATTEMPTS, this.#queue.length))
      if (this.#attempts.filter(({ isLost }) => !isLost).length >= most) {
        throw leastFinal([...this.#queue.errors, mismatch])
      }
    }
  }

  /** All of it was good, and is not here any more: it is fetched again for who reads, until the signal fires. */
  async serve(attempt: Attempt): Promise<void> {
    await this.#fill(attempt, { serving: true })
  }

  // Where no file can be made, or it would not fit, the blob passes through.
  async #begin(): Promise<Attempt> {
    const isLost = this.#isHandedOver || this.#attempts.some((each) => each.isLost)
    const ingest = isLost ? undefined : await this.#createIngest()
    const { digest, memory } = this.#options
    const passes = (cause: unknown) => this.#passes(cause)
    const changed = () => this.#changed()
    const attempt = new Attempt({ digest, ingest, memory, passes, changed })
    this.#attempts.push(attempt)
    await this.#owner.readers.rescue(attempt)
    return attempt
  }

  async #createIngest(): Promise<Ingest | undefined> {
    try {
      return await this.#options.createIngest(this.#options.digest)
    } catch (error) {
      this.#storeError('write', error)
      return undefined
    }
  }

  #passes(cause: unknown): void {
    const isTrouble = !(cause instanceof HandedOver)
    if (isTrouble) this.#storeError(cause instanceof NoRoom ? 'fit' : 'write', cause)
    this.#owner.passes()
    this.pump()
  }

  #changed(): void {
    this.#owner.readers.wake()
    this.pump()
  }

  /** @returns why nobody may read what came, if they may not */
  async #try(attempt: Attempt): Promise<UpstreamError | FileLost | undefined> {
    try {
      if (this.#size !== undefined) await this.#owner.keeping.makeRoom(attempt, this.#size)
      const { isKnown } = await this.#fill(attempt)
      return isKnown ? await this.#verify(attempt) : await this.#tryAsWhole(attempt)
    } catch (error) {
      if (!(error instanceof FileLost) || this.#owner.signal.aborted) throw error
      attempt.isLost = true
      attempt.retire()
      this.#storeError('write', error)
      return error
    }
  }

  /** `isKnown`: all of it came; else a source said that nothing follows, and nobody how long it is. */
  async #fill(attempt: Attempt, { serving = false } = {}): Promise<{ isKnown: boolean }> {
    const filling = this.#newFilling(attempt, serving)
    this.#filling = filling
    this.#owner.began()
    try {
      await filling.run()
      if (this.#size === undefined && filling.size !== undefined)
        attempt.window?.sized(filling.size)
      this.#size = filling.size
      this.#owner.opened()
      return { isKnown: true }
    } catch (error) {
      if (this.#mayEnd(attempt, error)) return { isKnown: false }
      // Known before it is thrown: who comes while it is on its way begins anew, nobody would ask
      // their sources any more.
      if (serving || !(error instanceof FileLost)) this.#owner.failed(error)
      throw error
    } finally {
      this.#filling = undefined
    }
  }

  #newFilling(attempt: Attempt, serving: boolean): Filling {
    const { digest, observer, fetch } = this.#options
    const { readers, signal, isWanted } = this.#owner
    return new Filling({
      attempt,
      fetch,
      queue: this.#queue,
      signal,
      size: this.#size,
      wanted: () => readers.wantedParts,
      wantedNext: () => readers.wantedNext,
      // What is suspect is sent only once it is verified, and that takes all of it.
      fill: () => isWanted() || this.#suspect || this.#size === undefined,
      readers: () => readers.of(attempt),
      withheld: () => this.#suspect && !attempt.verified,
      serving,
      opened: (size) => this.#opened(attempt, size),
      progress: () => this.#progress(attempt),
      failed: (error) => observer.sourceFailed(error, digest),
      now: () => performance.now(),
    })
  }

  #mayEnd(attempt: Attempt, error: unknown): boolean {
    if (!(error instanceof UpstreamError) || this.#owner.signal.aborted) return false
    return this.#size === undefined && attempt.have.bytes > 0 && this.#queue.hasMetTheEnd
  }

  #opened(attempt: Attempt, size: number | undefined): void {
    const isNews = this.#size === undefined && size !== undefined
    this.#size = size
    this.#owner.opened()
    if (isNews) this.#watch(this.#owner.keeping.makeRoom(attempt, size))
  }

  #progress(attempt: Attempt): void {
    this.#owner.readers.wake()
    this.#watch(this.#owner.keeping.grown(attempt, this.#size))
  }

  #watch(keeping: Promise<void> | undefined): void {
    keeping?.catch((error: Error) => this.#filling?.fail(error))
  }

  /** @returns why the bytes are not what the digest names, or undefined when they are */
  async #verify(attempt: Attempt): Promise<UpstreamError | undefined> {
    const wrong = await wrongIn(attempt, this.#size)
    return wrong && (await this.#distrust(attempt, wrong))
  }

  /**
   * A source has nothing behind what is here: that is all, or there is too much, or the source is at
   * fault. Where it is not all, begun anew: what is here can only fail again.
   */
  async #tryAsWhole(attempt: Attempt): Promise<UpstreamError | undefined> {
    const size = attempt.frontier
    const wrong = await wrongIn(attempt, size)
    if (wrong) {
      this.#queue.forgetTheEnd()
      return await this.#discard(attempt, wrong)
    }
    this.#size = size
    this.#owner.opened()
    return undefined
  }

  async #distrust(attempt: Attempt, cause: ContentError): Promise<UpstreamError> {
    const error = await this.#discard(attempt, cause)
    if (attempt.resumed) return error
    for (const source of attempt.sources) this.#queue.lied(source, error)
    // Of several, who it was shows when a good copy is here.
    const { digest, observer } = this.#options
    if (attempt.sources.size === 1) observer.verificationFailed(error.endpoint, digest)
    return error
  }

  /** Its readers wait for a better one. */
  async #discard(attempt: Attempt, cause: ContentError): Promise<UpstreamError> {
    this.#suspect = true
    this.#size = this.#options.size
    const error = mismatchOf(attempt, cause)
    attempt.mismatch = error
    attempt.retire()
    await this.#owner.keeping.discard(attempt)
    return error
  }

  async #trust(attempt: Attempt): Promise<void> {
    attempt.verified = true
    this.#suspect = false
    this.#owner.readers.wake()
    await this.#owner.readers.judge(attempt, this.#size)
    const { digest, observer } = this.#options
    for (const bad of this.#attempts.slice(0, -1)) {
      for (const origin of await liarsOf(bad, attempt)) observer.verificationFailed(origin, digest)
    }
  }

  #storeError(operation: string, error: unknown): void {
    this.#options.observer.storeError(operation, error)
  }
}
