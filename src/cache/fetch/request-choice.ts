// Which request a download makes next, and of whom: first where a reader waits, then in order what is
// read, or all. It looks at what is here and what runs, and moves where a running one ends; to ask
// is filling.ts's business.
import type { ByteRange } from '../../http/range.ts'
import type { Source, SourceResponse } from '../../upstream/face/source.ts'
import type { Attempt } from './attempt.ts'
import type { Concurrency } from './connections.ts'
import { isComing, missingPiece, type PiecePlanOptions, urgentPiece } from './piece-plan.ts'
import type { PieceRequest, PieceRequestOptions } from './range-request.ts'
import type { SourceQueue } from './source-queue.ts'

export interface FetchOptions {
  readonly pieceBytes: number
  readonly connections: number
  readonly maxConnections: number
}

export interface RequestChoiceOptions {
  readonly attempt: Attempt
  readonly queue: SourceQueue
  readonly fetch: FetchOptions
  readonly concurrency: Concurrency
  /** Those that run. */
  readonly requests: ReadonlySet<PieceRequest>
  /** Of the blob, where it is known by now. */
  readonly size: () => number | undefined
  /** What readers wait for, the longest waiting first. */
  readonly wanted: () => readonly ByteRange[]
  /** The same, and what they will wait for then. */
  readonly wantedNext: () => readonly ByteRange[]
  /** Whether the blob is to become whole without anybody waiting. */
  readonly fill: () => boolean
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

export type ChosenRequest = Omit<PieceRequestOptions, 'asker'>

/** Of what passes through: smaller, so that several find room in the window. */
const PASSING_PIECE_BYTES = 4 * 1024 * 1024
/** Not worth a connection. */
const LITTLE_BYTES = 512 * 1024
const EVERYTHING: ByteRange = { start: 0, end: Infinity }

export class RequestChoice {
  readonly #options: RequestChoiceOptions

  constructor(options: RequestChoiceOptions) {
    this.#options = options
  }

  /** What is to be asked for now; undefined where there is nothing, nobody to ask, or enough runs. */
  next(): ChosenRequest | undefined {
    return this.#urgent() ?? this.#inOrder()
  }

  /** Whether anything is to come that nobody brings yet, were there somebody to ask. */
  get isMissing(): boolean {
    return this.#urgentPiece(Infinity) !== undefined || this.#nextPiece(undefined) !== undefined
  }

  /** Whether what a reader waits for at `at` is about to come by itself. */
  isComing(at: number): boolean {
    return isComing(this.#options.requests, at)
  }

  /** As for all, but for what the source's host has of its own. */
  fetchOptions(source: Source | undefined): FetchOptions {
    const options = { ...this.#options.fetch, ...source?.fetchOptions }
    if (!this.#options.attempt.window) return options
    return { ...options, pieceBytes: Math.min(options.pieceBytes, PASSING_PIECE_BYTES) }
  }

  /** Whether who is asked next answers with the whole, whatever the range. */
  get isUnranged(): boolean {
    const { queue, now } = this.#options
    const source = queue.next(now())
    return source !== undefined && queue.isUnranged(source)
  }

  /** Where what is read in order begins. */
  get front(): number {
    const { attempt } = this.#options
    return attempt.readableFrom(attempt.window?.rest?.start ?? 0)
  }

  /** An open request goes on while nobody has what follows, and nobody is about to. */
  extend(request: PieceRequest): void {
    const { queue, requests } = this.#options
    const rest = this.#rest({ all: queue.isUnranged(request.source) })
    if (!rest) return
    const others = [...requests].filter((each) => each !== request)
    const plan = this.#plan(this.fetchOptions(request.source).pieceBytes, others)
    const next = missingPiece(plan, { start: request.at, end: rest.end })
    if (next?.start === request.at) request.end = next.end
  }

  /** An answer to a question for a part may be the whole: of use only where nobody else is on the way. */
  isUseful(request: PieceRequest, response: SourceResponse): boolean {
    if (response.ranged || request.whole) return true
    const isPart = response.start > 0 || response.end !== response.size
    const isKnown = this.#options.size() !== undefined
    if (isPart && isKnown && response.start === request.at) return true
    this.#options.queue.ignoresRange(request.source)
    if (isPart) return false // of nobody knows how much
    if (request.apart) return true // what comes before is passed over
    if (this.#together > 1) return false
    request.from = request.at = this.front
    request.end = Infinity
    return true
  }

  /** Of those that wait for readers, one that is to end: something else is missing, and no more can be asked for. */
  get inTheWay(): PieceRequest | undefined {
    const { attempt, requests } = this.#options
    if (!attempt.window) return undefined
    const idle = [...requests].findLast((each) => !each.apart && each.isWaiting)
    if (!idle) return undefined
    const { rest, top } = attempt.window
    const next = rest && missingPiece(this.#plan(Infinity), rest)
    const isMissing = next !== undefined && next.start < top
    return isMissing || this.#urgentPiece(Infinity) ? idle : undefined
  }

  // Where a reader waits comes first, though others are asked already, and from whoever has it.
  #urgent(): ChosenRequest | undefined {
    const { attempt, queue, requests, size, now } = this.#options
    const apart = attempt.window !== undefined
    const isWhole = apart && this.isUnranged
    const source = queue.next(now(), { ranged: requests.size > 0 && !isWhole })
    const { pieceBytes, maxConnections } = this.fetchOptions(source)
    if (!source || requests.size >= maxConnections) return undefined
    const piece = this.#urgentPiece(isWhole ? Infinity : pieceBytes)
    if (!piece || attempt.window?.admits(piece.start, apart) === 'no') return undefined
    // An open request must see what this one brings, and stop there.
    for (const each of requests) if (each.open) endWithin(each, pieceBytes)
    const end = isWhole ? (size() ?? Infinity) : piece.end
    if (!apart) this.#makeWay(piece)
    return { source, piece: { start: piece.start, end }, open: false, apart }
  }

  /**
   * What is asked for from where a reader waits need not come by a request that began before it, too;
   * a little of it may: to end that one costs its connection.
   */
  #makeWay({ start, end }: ByteRange): void {
    const { queue, requests } = this.#options
    for (const each of requests) {
      const isTwice = each.from < start && Math.min(end, each.end) - start > LITTLE_BYTES
      if (isTwice && !queue.isUnranged(each.source)) each.end = start
    }
  }

  // Then in order what is read, or all, from the source that comes first.
  #inOrder(): ChosenRequest | undefined {
    const { queue, size, now } = this.#options
    const source = queue.next(now())
    if (!source || (queue.isUnranged(source) && this.#together > 0)) return undefined
    const piece = this.#nextPiece(source)
    if (!piece) return undefined
    const open = this.#limit(source) === 1 && piece.end === (size() ?? Infinity)
    return { source, piece, open, apart: false }
  }

  #urgentPiece(pieceBytes: number): ByteRange | undefined {
    return urgentPiece(this.#plan(pieceBytes), this.#wanted())
  }

  #nextPiece(source: Source | undefined): ByteRange | undefined {
    const limit = this.#limit(source)
    if (this.#together >= limit) return undefined
    this.#claim(limit)
    const isOpen = limit === 1 && !this.#looksFar(source)
    const plan = this.#plan(isOpen ? Infinity : this.fetchOptions(source).pieceBytes)
    const { attempt, queue } = this.#options
    const rest = this.#rest({ all: source !== undefined && queue.isUnranged(source) })
    if (!rest) return this.#firstMissing(plan)
    const piece = missingPiece(plan, rest)
    const isTooFar = piece && attempt.window && attempt.window.admits(piece.start, false) !== 'yes'
    return isTooFar ? undefined : piece
  }

  #firstMissing(plan: PiecePlanOptions): ByteRange | undefined {
    const { attempt, wantedNext } = this.#options
    for (const range of attempt.window?.apart ?? wantedNext()) {
      const piece = missingPiece(plan, range)
      if (piece) return piece
    }
    return undefined
  }

  // An open request claims one piece when others are to work beside it.
  #claim(limit: number): void {
    if (limit === 1 && this.#rest()) return
    for (const each of this.#options.requests) {
      if (each.open) endWithin(each, this.fetchOptions(each.source).pieceBytes)
    }
  }

  #wanted(): readonly ByteRange[] {
    const { attempt, wanted } = this.#options
    return attempt.window?.apart ?? wanted()
  }

  /** What is to come though nobody waits for it; `all`: as much as an upstream without ranges gives. */
  #rest({ all = false } = {}): ByteRange | undefined {
    const { attempt, fill } = this.#options
    if (attempt.window) return attempt.window.rest
    return all || fill() ? EVERYTHING : undefined
  }

  /** How many requests run for those who read together. */
  get #together(): number {
    let count = 0
    for (const { apart } of this.#options.requests) if (!apart) count += 1
    return count
  }

  // Before anything came: the first request is one for a piece then, whose connection stays of use.
  #looksFar(source: Source | undefined): boolean {
    const { concurrency, queue } = this.#options
    const isAsked = source !== undefined && !queue.isUnranged(source)
    return isAsked && concurrency.looksFar(source.latencyMs)
  }

  // Without a size nobody knows where the pieces end.
  #limit(source: Source | undefined): number {
    const { concurrency, queue, size } = this.#options
    const isSingle = size() === undefined || (source && queue.isUnranged(source))
    return isSingle ? 1 : Math.min(concurrency.limit, this.fetchOptions(source).maxConnections)
  }

  #plan(pieceBytes: number, running?: readonly PieceRequest[]): PiecePlanOptions {
    const { attempt, requests, size } = this.#options
    return { have: attempt.held, running: running ?? requests, size: size(), pieceBytes }
  }
}

function endWithin(request: PieceRequest, bytes: number): void {
  request.end = Math.min(request.end, request.at + bytes)
}
