// Fills one attempt from its sources, by as many requests at once as are of use, until every byte is
// here or no source is left. What broke is asked for again from where it broke, there or elsewhere.
// It neither verifies nor keeps.
import type { ByteRange } from '../../http/range.ts'
import { leastFinal, type UpstreamError } from '../../upstream/face/failure.ts'
import { exhaustionOf } from '../../process/own-fault.ts'
import type { SourceResponse } from '../../upstream/face/source.ts'
import type { Attempt } from './attempt.ts'
import { Concurrency, type ConcurrencyOptions } from './connections.ts'
import { crawlingFront } from './stragglers.ts'
import type { WindowReader } from '../bypass/memory-window.ts'
import { type PieceAsker, PieceRequest } from './range-request.ts'
import { FileLost, WriteFailed } from './write-body.ts'
import { type ChosenRequest, type FetchOptions, RequestChoice } from './request-choice.ts'
import { asUpstreamError, sourceFault } from './errors.ts'
import type { SourceQueue } from './source-queue.ts'
import { MOST_IN_VAIN, VainTries } from './vain-tries.ts'
import { MOST_GRANTS } from '../bypass/window-grants.ts'

export interface FillingOptions {
  readonly attempt: Attempt
  readonly queue: SourceQueue
  readonly fetch: FetchOptions
  readonly signal: AbortSignal
  /** In bytes, where it is known before anything is asked for; an upstream that says otherwise is not believed. */
  readonly size: number | undefined
  /** What readers wait for, the longest waiting first. */
  readonly wanted: () => readonly ByteRange[]
  /** The same, and what they will wait for then. */
  readonly wantedNext: () => readonly ByteRange[]
  /** Whether the blob is to become whole without anybody waiting. */
  readonly fill: () => boolean
  /** Who reads, for what passes through: nothing is fetched that nobody reads. */
  readonly readers: () => readonly WindowReader[]
  /** Of what passes through, parts are given to nobody before it is verified. */
  readonly withheld: () => boolean
  /** Everything was hashed before: it goes on for who reads, until the signal fires. */
  readonly serving?: boolean
  /** A response began; the size of the blob, where it is known by now. */
  readonly opened: (size: number | undefined) => void
  /** Bytes became readable. */
  readonly progress: () => void
  readonly failed: (error: UpstreamError) => void
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

/** A download gives up after so many attempts in a row to make a request for which a resource had run out. */
const MAX_EXHAUSTED = 4
/** The pause before the next attempt; doubled each time. */
const EXHAUSTED_PAUSE_MS = 250
const MAX_EXHAUSTED_PAUSE_MS = 4000

/** The front is looked at so often. */
const LOOK_EVERY_MS = 1000

export class Filling implements PieceAsker {
  readonly #options: FillingOptions
  readonly #requests = new Set<PieceRequest>()
  readonly #concurrency: Concurrency
  readonly #choice: RequestChoice
  readonly #vain = new VainTries()
  readonly #done = Promise.withResolvers<void>()
  #size: number | undefined
  /** Attempts in a row for which a resource had run out. */
  #exhausted = 0
  #pausedUntil = -Infinity
  #isOver = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: FillingOptions) {
    this.#options = options
    this.#size = options.size
    this.#concurrency = new Concurrency(widthOf(options.fetch))
    this.#choice = new RequestChoice({
      ...options,
      concurrency: this.#concurrency,
      requests: this.#requests,
      size: () => this.#size,
    })
  }

  get attempt(): Attempt {
    return this.#options.attempt
  }

  get signal(): AbortSignal {
    return this.#options.signal
  }

  get size(): number | undefined {
    return this.#size
  }

  get isOver(): boolean {
    return this.#isOver
  }

  now(): number {
    return this.#options.now()
  }

  /** Resolves when every byte is here; rejects with the least final failure, or the signal's reason. */
  async run(): Promise<void> {
    const { signal } = this
    const aborted = () => this.#finish(() => this.#done.reject(signal.reason))
    signal.addEventListener('abort', aborted, { once: true })
    const look = setInterval(() => this.#look(), LOOK_EVERY_MS)
    try {
      if (signal.aborted) aborted()
      this.pump()
      await this.#done.promise
    } finally {
      clearInterval(look)
      clearTimeout(this.#timer)
      signal.removeEventListener('abort', aborted)
      for (const request of this.#requests) request.stop()
    }
  }

  /** Ends it, because of this. */
  fail(error: Error): void {
    this.#finish(() => this.#done.reject(error))
  }

  /** Whether what a reader waits for at `at` is about to come by itself. */
  isComing(at: number): boolean {
    return this.#choice.isComing(at)
  }

  /** A reader said what it will read. */
  planned(): void {
    this.#vain.forget()
    this.pump()
  }

  /** Looks at what is to be asked for: something arrived, is wanted, or a source joined. */
  pump(): void {
    if (this.#isOver) return
    this.#arrange()
    if (this.#isComplete()) return this.#finish(() => this.#done.resolve())
    const pauseMs = this.#pausedUntil - this.now()
    if (pauseMs > 0) return this.#pumpIn(pauseMs)
    for (let next = this.#choice.next(); next; next = this.#choice.next()) void this.#ask(next)
    if (this.#requests.size === 0) this.#waitOrGiveUp()
    else this.#choice.inTheWay?.stop()
  }

  isUseful(request: PieceRequest, response: SourceResponse): boolean {
    return this.#choice.isUseful(request, response)
  }

  opened({ source, startedAt }: PieceRequest, response: SourceResponse): void {
    this.#size ??= response.size
    this.#exhausted = 0
    this.attempt.sources.add(source)
    this.#options.queue.began(source)
    const now = this.now()
    const width = widthOf(this.#choice.fetchOptions(source))
    this.#concurrency.opened(now - startedAt, now, width)
    this.#options.opened(this.#size)
    if (this.#requests.size === 1) this.pump() // others may begin beside it
  }

  arrived(request: PieceRequest, bytes: number): void {
    const { limit } = this.#concurrency
    this.#concurrency.arrived(bytes, this.now())
    if (request.open && request.at >= request.end) this.#choice.extend(request)
    if (this.#concurrency.limit > limit) queueMicrotask(() => this.pump())
  }

  progress(): void {
    this.#options.progress()
  }

  waits(): void {
    this.pump()
  }

  #isComplete(): boolean {
    return (
      this.#options.serving !== true && this.#size !== undefined && this.attempt.holds(this.#size)
    )
  }

  // What passes through: what is to be in memory, now that readers are where they are.
  #arrange(): void {
    const { attempt, readers, withheld, queue } = this.#options
    const { window } = attempt
    if (!window) return
    if (window.broken) {
      return this.fail(new FileLost('what was written cannot be read again', window.broken))
    }
    if (this.#size !== undefined) window.sized(this.#size)
    const now = this.now()
    const ranged = !this.#choice.isUnranged
    const others = this.#choice.fetchOptions(queue.next(now)).maxConnections - 1
    const mostGrants = Math.min(MOST_GRANTS, ranged ? Math.max(1, others) : others)
    window.arrange(readers(), { ranged, mostGrants, withheld: withheld(), now })
  }

  #waitOrGiveUp(): void {
    const { queue } = this.#options
    if (!this.#choice.isMissing) return
    const waitMs = queue.waitMs(this.now())
    clearTimeout(this.#timer)
    if (waitMs !== undefined) this.#pumpIn(waitMs)
    else this.#finish(() => this.#done.reject(leastFinal(queue.errors)))
  }

  #pumpIn(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.pump(), ms)
  }

  #finish(settle: () => void): void {
    if (this.#isOver) return
    this.#isOver = true
    settle()
  }

  async #ask(chosen: ChosenRequest): Promise<void> {
    const request = new PieceRequest({ ...chosen, asker: this })
    this.#requests.add(request)
    try {
      if (await request.run()) this.#concluded(request)
      this.#checkGain(chosen)
    } catch (error) {
      this.#lost(request, error)
      if (request.given > 0 || request.isStopped) this.#checkGain(chosen)
    } finally {
      this.#requests.delete(request)
      this.pump()
    }
  }

  #concluded({ source, at }: PieceRequest): void {
    this.#size ??= at
    this.#options.queue.gotOn(source)
  }

  #lost(request: PieceRequest, error: unknown): void {
    if (this.signal.aborted || this.#isOver) return
    if (error instanceof WriteFailed) return this.fail(error)
    if (request.isStopped) return // asked for again elsewhere, for being slow
    const told = asUpstreamError(error, request.source)
    if (told === undefined) return this.#faulted(error)
    this.#options.failed(told)
    const isFlowing = request.given > 0 || this.attempt.have.bytes > 0
    this.#options.queue.failed(request, told, isFlowing, this.now())
  }

  /**
   * Handles an error that is ours. It says nothing about the source, and the next source would meet
   * it as well. Where a resource ran out, the requests that run go on, and others are made later.
   */
  #faulted(error: unknown): void {
    if (exhaustionOf(error) === undefined) return this.fail(asError(error))
    // Several requests that could not be made together are one attempt.
    if (this.now() < this.#pausedUntil) return
    this.#exhausted += 1
    const isAlone = this.#requests.size === 1
    if (isAlone && this.#exhausted >= MAX_EXHAUSTED) return this.fail(asError(error))
    const pauseMs = EXHAUSTED_PAUSE_MS * 2 ** (this.#exhausted - 1)
    this.#pausedUntil = this.now() + Math.min(pauseMs, MAX_EXHAUSTED_PAUSE_MS)
  }

  // Who brings nothing of use, however often, is asked no more.
  #checkGain({ source, piece }: ChosenRequest): void {
    if (this.#isOver || !this.#vain.isLast(piece.start, this.attempt.gained)) return
    const what = `was asked ${MOST_IN_VAIN} times for what begins at byte ${piece.start}, and nothing came of it`
    const error = sourceFault(source, 'protocol', what)
    this.#options.failed(error)
    this.#options.queue.giveUp(source, error)
  }

  #look(): void {
    if (this.attempt.window) this.pump() // who reads nothing makes room for who waits
    const crawling = crawlingFront(this.#requests, this.#choice.front, this.now())
    if (!crawling) return
    if (crawling.isAlone) this.#options.queue.crawled(crawling.request.source)
    crawling.request.stop()
  }
}

function widthOf({ connections, maxConnections: most }: FetchOptions): ConcurrencyOptions {
  return { connections, most }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
