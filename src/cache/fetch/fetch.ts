// Fills one attempt from its sources, by as many requests at once as are of use, until every byte is here
// or no source is left. What breaks is asked for again from where it broke, there or elsewhere. What to ask
// for next is decided here too: first where a reader waits, then in order what is read, or all.
// It neither verifies nor keeps.
import type { ByteRange } from '../../http/range.ts'
import { leastFinal, type UpstreamError } from '../../upstream/face/failure.ts'
import { exhaustionOf } from '../../process/own-fault.ts'
import type { Source, SourceResponse } from '../../upstream/face/source.ts'
import type { Attempt } from './attempt.ts'
import { Concurrency, type ConcurrencyOptions } from './connections.ts'
import { asUpstreamError, isDoubtful, sourceFault } from './errors.ts'
import { isComing, missingPiece, type PiecePlanOptions, urgentPiece } from './piece-plan.ts'
import { RangeRequest, type RangeRequestOptions, type RequestOwner } from './range-request.ts'
import type { SizeClaims } from './size-claims.ts'
import type { SourceQueue } from './source-queue.ts'
import { MAX_VAIN_REQUESTS, slowFront, VainRequests } from './stragglers.ts'
import { WriteFailed } from './write-body.ts'

export interface FetchOptions {
  readonly pieceBytes: number
  readonly connections: number
  readonly maxConnections: number
}

/** What is wanted of a blob. */
export interface Demand {
  /** Whether the blob is to become whole without anybody waiting. */
  readonly isWhole: boolean
  /** What readers of parts wait for. */
  readonly wanted: readonly ByteRange[]
  /** The same, and what they will wait for after that. */
  readonly upcoming: readonly ByteRange[]
}

export interface FetchRun {
  readonly attempt: Attempt
  readonly queue: SourceQueue
  readonly fetch: FetchOptions
  readonly signal: AbortSignal
  /** What manifests claim about the size of the blob: requests are planned by it until a source announces one. */
  readonly claims: SizeClaims
  readonly demand: Demand
  /** A response began; the size of the blob, where it is known by now. */
  readonly opened: (size: number | undefined) => void
  /** Bytes became readable. */
  readonly progress: () => void
  readonly failed: (error: UpstreamError) => void
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

type ChosenRequest = Omit<RangeRequestOptions, 'owner'>

/** A fetch gives up after this many requests in a row for which a resource had run out. */
const MAX_EXHAUSTED = 4
/** The pause before the next request then, in milliseconds; doubled each time. */
const EXHAUSTED_PAUSE_MS = 250
const MAX_EXHAUSTED_PAUSE_MS = 4000

/** How often requests are looked at for one that holds up the others, in milliseconds. */
const LOOK_EVERY_MS = 1000
/** So few bytes twice cost less than the connection of the request that would have to end. */
const FEW_BYTES = 512 * 1024
const RANGE_NOT_SATISFIABLE = 416
const EVERYTHING: ByteRange = { start: 0, end: Infinity }

export class Fetch implements RequestOwner {
  readonly #options: FetchRun
  readonly #requests = new Set<RangeRequest>()
  readonly #concurrency: Concurrency
  readonly #vain = new VainRequests()
  readonly #done = Promise.withResolvers<void>()
  #size: number | undefined
  /** Requests in a row that could not be made because a resource had run out. */
  #exhausted = 0
  #pausedUntil = -Infinity
  #isOver = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: FetchRun) {
    this.#options = options
    this.#concurrency = new Concurrency(widthOf(options.fetch))
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

  get expectedSize(): number | undefined {
    return this.#size ?? this.claims.expected
  }

  get claims(): SizeClaims {
    return this.#options.claims
  }

  get isOver(): boolean {
    return this.#isOver
  }

  now(): number {
    return this.#options.now()
  }

  /**
   * Resolves when every byte is here. If `size` is undefined then, no source has announced one and as
   * much is here as manifests claim. Throws the least final failure, or the signal's reason.
   */
  async run(): Promise<void> {
    const { signal } = this
    const aborted = () => this.fail(signal.reason)
    signal.addEventListener('abort', aborted, { once: true })
    const look = setInterval(() => this.#stopStraggler(), LOOK_EVERY_MS)
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
  fail(error: unknown): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#done.reject(error)
  }

  /** A reader said what it will read. */
  planned(): void {
    this.#vain.forget()
    this.pump()
  }

  /** Reports whether a request is about to bring what a reader waits for at `at`. */
  isComing(at: number): boolean {
    return isComing(this.#requests, at)
  }

  /** Makes the requests that are due: something arrived, is wanted, or a source joined. */
  pump(): void {
    if (this.#isOver) return
    if (this.#isComplete()) return this.#finish()
    const pauseMs = this.#pausedUntil - this.now()
    if (pauseMs > 0) return this.#pumpIn(pauseMs)
    for (let next = this.#next(); next; next = this.#next()) void this.#ask(next)
    if (this.#requests.size === 0) this.#waitOrGiveUp()
  }

  /** A 200 to a Range request helps only if no other request is running. */
  isUseful(request: RangeRequest, response: SourceResponse): boolean {
    if (this.#size === undefined && isDoubtful(request.source, response, this.#options))
      return false
    if (response.ranged || request.isWhole) return true
    const isPart = response.start > 0 || response.end !== response.size
    if (isPart && this.expectedSize !== undefined && response.start === request.at) return true
    this.#options.queue.ignoresRange(request.source)
    if (isPart || this.#requests.size > 1) return false // nobody knows what it is a part of
    request.pendingFrom = request.at = this.attempt.contiguousEnd
    request.end = response.size ?? this.expectedSize ?? Infinity
    return true
  }

  opened({ source, startedAt }: RangeRequest, response: SourceResponse): void {
    this.#size ??= response.size
    this.#exhausted = 0
    this.attempt.sources.add(source)
    this.#options.queue.responded(source)
    if (this.#size !== undefined) this.#options.queue.believed(this.#size)
    const now = this.now()
    this.#concurrency.opened(now - startedAt, now, widthOf(this.#fetchOptions(source)))
    this.#options.opened(this.#size)
    if (this.#requests.size === 1) this.pump() // others may begin beside it
  }

  arrived(request: RangeRequest, bytes: number): void {
    const { limit } = this.#concurrency
    this.#concurrency.arrived(bytes, this.now())
    if (request.isOpen && request.at >= request.end) this.#extend(request)
    if (this.#concurrency.limit > limit) queueMicrotask(() => this.pump())
  }

  progress(): void {
    this.#options.progress()
  }

  ended(size: number): void {
    this.#size ??= size
  }

  #isComplete(): boolean {
    if (this.#size !== undefined) return this.attempt.isComplete(this.#size)
    // No source has announced a size, and none is sending: the digest shows whether the claim is right.
    const { expected } = this.claims
    return expected !== undefined && this.#requests.size === 0 && this.attempt.isComplete(expected)
  }

  #finish(): void {
    this.#isOver = true
    this.#done.resolve()
  }

  async #ask(chosen: ChosenRequest): Promise<void> {
    const request = new RangeRequest({ ...chosen, owner: this })
    this.#requests.add(request)
    try {
      if (await request.run()) this.#options.queue.succeeded(request.source)
      this.#checkProgress(chosen)
    } catch (error) {
      this.#failed(request, error)
      if (request.given > 0 || request.isStopped) this.#checkProgress(chosen)
    } finally {
      this.#requests.delete(request)
      this.pump()
    }
  }

  #failed(request: RangeRequest, error: unknown): void {
    if (this.signal.aborted || this.#isOver) return
    if (error instanceof WriteFailed) return this.fail(error)
    if (request.isStopped) return // asked for again elsewhere, for being slow
    const told = asUpstreamError(error, request.source)
    if (told === undefined) return this.#faulted(error)
    if (this.#isBeyondEnd(request, told)) {
      if (this.#size === undefined) this.claims.refute()
      return
    }
    this.#options.failed(told)
    const isFlowing = request.given > 0 || this.attempt.have.bytes > 0
    this.#options.queue.failed(request, told, isFlowing, this.now())
  }

  /**
   * Reports whether a request was for bytes that only a claim made look possible: that is not the fault
   * of its source.
   */
  #isBeyondEnd({ pendingFrom }: RangeRequest, { status }: UpstreamError): boolean {
    if (status !== RANGE_NOT_SATISFIABLE) return false
    if (this.#size !== undefined) return pendingFrom >= this.#size
    if (this.claims.expected === undefined) return false
    return pendingFrom > this.attempt.contiguousEnd
  }

  /**
   * Handles an error that is ours. It says nothing about the source, and the next source would meet
   * it as well. Where a resource ran out, the requests that run go on, and others are made later.
   */
  #faulted(error: unknown): void {
    const isAlone = this.#requests.size === 1
    const isLast = isAlone && this.#exhausted + 1 >= MAX_EXHAUSTED
    if (isLast || exhaustionOf(error) === undefined) return this.fail(error)
    const pauseMs = Math.min(EXHAUSTED_PAUSE_MS * 2 ** this.#exhausted, MAX_EXHAUSTED_PAUSE_MS)
    this.#exhausted += 1
    this.#pausedUntil = this.now() + pauseMs
  }

  // A source that brings nothing of use, however often it is asked, is not asked again.
  #checkProgress({ source, piece }: ChosenRequest): void {
    if (this.#isOver || !this.#vain.isLast(piece.start, this.attempt.have.bytes)) return
    const what = `was asked ${MAX_VAIN_REQUESTS} times for what begins at byte ${piece.start}, and nothing came of it`
    const error = sourceFault(source, 'protocol', what)
    this.#options.failed(error)
    this.#options.queue.exhaust(source, error)
  }

  #stopStraggler(): void {
    const slow = slowFront(this.#requests, this.attempt.contiguousEnd, this.now())
    if (!slow) return
    if (slow.isAlone) this.#options.queue.slow(slow.request.source)
    slow.request.stop()
  }

  #waitOrGiveUp(): void {
    const { queue } = this.#options
    if (!this.#urgentPiece(Infinity) && !this.#pieceInOrder(undefined)) return
    const waitMs = queue.msUntilNext(this.now())
    if (waitMs !== undefined) this.#pumpIn(waitMs)
    else this.fail(leastFinal(queue.errors))
  }

  #pumpIn(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.pump(), ms)
  }

  /** Returns the request that is due; undefined where there is nothing, nobody to ask, or enough runs. */
  #next(): ChosenRequest | undefined {
    return this.#urgent() ?? this.#inOrder()
  }

  // Where a reader waits comes first, though others are asked already, and from whoever has it.
  #urgent(): ChosenRequest | undefined {
    const source = this.#options.queue.next(this.now(), { ranged: this.#requests.size > 0 })
    const { pieceBytes, maxConnections } = this.#fetchOptions(source)
    if (!source || this.#requests.size >= maxConnections) return undefined
    const piece = this.#urgentPiece(pieceBytes)
    if (!piece) return undefined
    this.#endOpenRequests(pieceBytes) // they must see what this one brings, and stop there
    this.#makeWay(piece)
    return { source, piece, isOpen: false }
  }

  // Then in order what is read, or all, from the source that comes first.
  #inOrder(): ChosenRequest | undefined {
    const { queue } = this.#options
    const source = queue.next(this.now())
    if (!source || (queue.isUnranged(source) && this.#requests.size > 0)) return undefined
    const piece = this.#pieceInOrder(source)
    if (!piece) return undefined
    const isOpen = this.#limit(source) === 1 && piece.end === (this.expectedSize ?? Infinity)
    return { source, piece, isOpen }
  }

  /**
   * Ends requests that began before a reader's and would bring the same bytes. A few bytes twice are
   * better: to end a request costs its connection.
   */
  #makeWay({ start, end }: ByteRange): void {
    for (const each of this.#requests) {
      const isTwice = each.pendingFrom < start && Math.min(end, each.end) - start > FEW_BYTES
      if (isTwice && !this.#options.queue.isUnranged(each.source)) each.end = start
    }
  }

  // Without a size nobody knows whether there is anything where a reader waits: the front comes first.
  #urgentPiece(pieceBytes: number): ByteRange | undefined {
    if (this.expectedSize === undefined) return undefined
    return urgentPiece(this.#plan(pieceBytes), this.#options.demand.wanted)
  }

  #pieceInOrder(source: Source | undefined): ByteRange | undefined {
    const limit = this.#limit(source)
    if (this.#requests.size >= limit) return undefined
    const { demand, queue } = this.#options
    const { pieceBytes } = this.#fetchOptions(source)
    // An open request claims one piece when others are to work beside it.
    if (limit > 1 || !demand.isWhole) this.#endOpenRequests(undefined)
    const isOpen = limit === 1 && !this.#looksFar(source)
    const plan = this.#plan(isOpen ? Infinity : pieceBytes)
    const isAll = demand.isWhole || (source !== undefined && queue.isUnranged(source))
    if (isAll) return missingPiece(plan, EVERYTHING)
    for (const range of demand.upcoming) {
      const piece = missingPiece(plan, range)
      if (piece) return piece
    }
    return undefined
  }

  /** An open request goes on while what follows is missing and no other request is about to bring it. */
  #extend(request: RangeRequest): void {
    const { demand, queue } = this.#options
    if (!demand.isWhole && !queue.isUnranged(request.source)) return
    const others = [...this.#requests].filter((each) => each !== request)
    const plan = this.#plan(this.#fetchOptions(request.source).pieceBytes, others)
    const next = missingPiece(plan, { start: request.at, end: Infinity })
    if (next?.start === request.at) request.end = next.end
  }

  /** `bytes` is how much they may still bring; undefined for a piece of their own size. */
  #endOpenRequests(bytes: number | undefined): void {
    for (const each of this.#requests) {
      if (each.isOpen) each.endWithin(bytes ?? this.#fetchOptions(each.source).pieceBytes)
    }
  }

  // Before anything came: the first request is then one for a piece, whose connection stays of use.
  #looksFar(source: Source | undefined): boolean {
    const isRanged = source !== undefined && !this.#options.queue.isUnranged(source)
    return isRanged && this.#concurrency.looksFar(source.latencyMs)
  }

  // Without a size nobody knows where the pieces end.
  #limit(source: Source | undefined): number {
    const isUnranged = source !== undefined && this.#options.queue.isUnranged(source)
    if (this.expectedSize === undefined || isUnranged) return 1
    return Math.min(this.#concurrency.limit, this.#fetchOptions(source).maxConnections)
  }

  /** As for all sources, but for what the configuration says of this one's host. */
  #fetchOptions(source: Source | undefined): FetchOptions {
    return { ...this.#options.fetch, ...source?.fetchOptions }
  }

  #plan(pieceBytes: number, running: Iterable<RangeRequest> = this.#requests): PiecePlanOptions {
    return { have: this.attempt.have, running, size: this.expectedSize, pieceBytes }
  }
}

function widthOf({ connections, maxConnections: most }: FetchOptions): ConcurrencyOptions {
  return { connections, most }
}
