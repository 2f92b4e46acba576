// Fills one attempt from its sources: several pieces at a time where the link is far, in order from
// the front, but first of all where a reader waits. What broke is asked for again from where it
// broke, there or elsewhere. It neither verifies nor keeps.
import type { ByteRange } from '../http/range.ts'
import { leastFinal, UpstreamError } from '../upstream/failure.ts'
import type { Source, SourceResponse } from '../upstream/source.ts'
import type { Attempt } from './attempt.ts'
import { Concurrency, type ConcurrencyOptions } from './concurrency.ts'
import { OtherBytes, type WindowReader } from './memory-window.ts'
import {
  isComing,
  missingPiece,
  type PiecePlanOptions,
  type Running,
  urgentPiece,
} from './piece-plan.ts'
import { MOST_GRANTS } from './window-grants.ts'
import { FileLost, pour, TooLong, WriteFailed } from './pour.ts'
import type { SourceQueue } from './source-queue.ts'

export interface FetchOptions {
  readonly pieceBytes: number
  readonly connections: number
  readonly maxConnections: number
}

export interface FillingOptions {
  readonly attempt: Attempt
  readonly queue: SourceQueue
  readonly fetch: FetchOptions
  readonly signal: AbortSignal
  /** In bytes, where it is known before anything is asked for; an upstream that says otherwise is not believed. */
  readonly size: number | undefined
  /** What readers wait for, the longest waiting first. */
  readonly wanted: () => readonly ByteRange[]
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

/** A request that runs. */
interface Fetch {
  readonly source: Source
  readonly startedAt: number
  /** Asked for without an end: it goes on until it meets what is here or on its way. */
  readonly open: boolean
  /** Asked for as the whole blob, without Range. */
  readonly whole: boolean
  readonly stop: AbortController
  from: number
  at: number
  end: number
  given: number
  /** For a reader that is elsewhere than the others. */
  readonly apart: boolean
  /** What it brings waits to be written at this offset, until readers have gone on. */
  waitsAt: number | undefined
}

/** The front is looked at so often. */
const LOOK_EVERY_MS = 1000
/** The front piece is asked for again when it is this much slower than the others. */
const CRAWLS = 0.2
/** Of what passes through: smaller, so that several find room in the window. */
const PASSING_PIECE_BYTES = 4 * 1024 * 1024
const EVERYTHING: ByteRange = { start: 0, end: Infinity }

export class Filling {
  readonly #options: FillingOptions
  readonly #fetches = new Set<Fetch>()
  readonly #concurrency: Concurrency
  readonly #done = Promise.withResolvers<void>()
  #size: number | undefined
  #over = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: FillingOptions) {
    this.#options = options
    this.#size = options.size
    this.#concurrency = new Concurrency(widthOf(options.fetch))
  }

  get size(): number | undefined {
    return this.#size
  }

  /** Resolves when every byte is here; rejects with the least final failure, or the signal's reason. */
  async run(): Promise<void> {
    const { signal } = this.#options
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
      for (const fetch of this.#fetches) fetch.stop.abort()
    }
  }

  /** Ends it, because of this. */
  fail(error: Error): void {
    this.#finish(() => this.#done.reject(error))
  }

  /** Whether what a reader waits for at `at` is about to come by itself. */
  isComing(at: number): boolean {
    return isComing(this.#running(), at)
  }

  /** Looks at what is to be asked for: something arrived, is wanted, or a source joined. */
  pump(): void {
    if (this.#over) return
    this.#arrange()
    if (this.#isComplete()) return this.#finish(() => this.#done.resolve())
    while (this.#startOne()) {
      // as many as there is a piece, a source and room for
    }
    if (this.#fetches.size === 0) this.#waitOrGiveUp()
    else this.#makeWay()
  }

  #isComplete(): boolean {
    const { attempt, serving } = this.#options
    return serving !== true && this.#size !== undefined && attempt.holds(this.#size)
  }

  #arrange(): void {
    const { attempt, readers, withheld, queue, now } = this.#options
    const { window } = attempt
    if (!window) return
    if (window.broken) {
      return this.fail(new FileLost('what was written cannot be read again', window.broken))
    }
    if (this.#size !== undefined) window.sized(this.#size)
    const ranged = !this.#isUnranged
    const others = this.#fetchOptions(queue.next(now())).maxConnections - 1
    const mostGrants = Math.min(MOST_GRANTS, ranged ? Math.max(1, others) : others)
    window.arrange(readers(), { ranged, mostGrants, withheld: withheld(), now: now() })
  }

  /** Whether who is asked next answers with the whole, whatever the range. */
  get #isUnranged(): boolean {
    const { queue, now } = this.#options
    const source = queue.next(now())
    return source !== undefined && queue.isUnranged(source)
  }

  // Where something is missing and no more can be asked for, one that waits for readers ends.
  #makeWay(): void {
    const { window } = this.#options.attempt
    const waiting = [...this.#fetches].filter((each) => !each.apart && this.#isWaiting(each))
    const idle = waiting.at(-1)
    if (!window || !idle) return
    const plan = this.#plan(Infinity)
    const next = window.rest && missingPiece(plan, window.rest)
    const isMissing = next !== undefined && next.start < window.top
    if (isMissing || urgentPiece(plan, window.apart)) idle.stop.abort()
  }

  #isWaiting({ waitsAt, apart }: Fetch): boolean {
    const { window } = this.#options.attempt
    return waitsAt !== undefined && window?.admits(waitsAt, apart) === 'wait'
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

  #startOne(): boolean {
    return this.#startUrgent() || this.#startNext()
  }

  // Where a reader waits comes first, though others are asked already, and from whoever has it.
  #startUrgent(): boolean {
    const { attempt, queue, now } = this.#options
    const others = this.#fetches.size
    const apart = attempt.window !== undefined
    const isWhole = apart && this.#isUnranged
    const source = queue.next(now(), { ranged: others > 0 && !isWhole })
    const { pieceBytes, maxConnections } = this.#fetchOptions(source)
    if (!source || others >= maxConnections) return false
    const piece = urgentPiece(this.#plan(isWhole ? Infinity : pieceBytes), this.#wanted())
    if (!piece) return false
    if (attempt.window?.admits(piece.start, apart) === 'no') return false
    const end = isWhole ? (this.#size ?? Infinity) : piece.end
    // An open request must see what this one brings, and stop there.
    for (const each of this.#fetches)
      if (each.open) each.end = Math.min(each.end, each.at + pieceBytes)
    void this.#fetch(source, { start: piece.start, end }, { open: false, apart })
    return true
  }

  // Then in order what is read, or all, from the source that comes first.
  #startNext(): boolean {
    const { queue, now } = this.#options
    const source = queue.next(now())
    if (!source || (this.#together > 0 && queue.isUnranged(source))) return false
    const piece = this.#nextPiece(source)
    if (!piece) return false
    const open = this.#limit(source) === 1 && piece.end === (this.#size ?? Infinity)
    void this.#fetch(source, piece, { open, apart: false })
    return true
  }

  #nextPiece(source: Source | undefined): ByteRange | undefined {
    const { attempt, queue } = this.#options
    const limit = this.#limit(source)
    if (this.#together >= limit) return undefined
    for (const each of this.#fetches) if (each.open) this.#claim(each, limit)
    const isOpen = limit === 1 && !this.#looksFar(source)
    const plan = this.#plan(isOpen ? Infinity : this.#fetchOptions(source).pieceBytes)
    const rest = this.#rest({ all: source !== undefined && queue.isUnranged(source) })
    if (rest) {
      const piece = missingPiece(plan, rest)
      const isTooFar =
        piece && attempt.window && attempt.window.admits(piece.start, false) !== 'yes'
      return isTooFar ? undefined : piece
    }
    for (const range of this.#wanted()) {
      const piece = missingPiece(plan, range)
      if (piece) return piece
    }
    return undefined
  }

  /** How many requests run for those who read together. */
  get #together(): number {
    return [...this.#fetches].filter((each) => !each.apart).length
  }

  // Before anything came: the first request is one for a piece then, whose connection stays of use.
  #looksFar(source: Source | undefined): boolean {
    const isAsked = source !== undefined && !this.#options.queue.isUnranged(source)
    return isAsked && this.#concurrency.looksFar(source.latencyMs)
  }

  #plan(pieceBytes: number, but?: Fetch): PiecePlanOptions {
    const { held: have } = this.#options.attempt
    return { have, running: this.#running(but), size: this.#size, pieceBytes }
  }

  // One that waits for readers brings nothing of what follows.
  #running(but?: Fetch): Running[] {
    const others = [...this.#fetches].filter((each) => each !== but)
    return others.map((each) => {
      const { from, at, end } = each
      return { from, at, end: this.#isWaiting(each) ? Math.min(at, end) : end }
    })
  }

  // As for all, but for what its host has of its own.
  #fetchOptions(source: Source | undefined): FetchOptions {
    const options = { ...this.#options.fetch, ...source?.fetchOptions }
    if (!this.#options.attempt.window) return options
    return { ...options, pieceBytes: Math.min(options.pieceBytes, PASSING_PIECE_BYTES) }
  }

  // Without a size nobody knows where the pieces end.
  #limit(source: Source | undefined): number {
    const single = this.#size === undefined || (source && this.#options.queue.isUnranged(source))
    const { maxConnections } = this.#fetchOptions(source)
    return single ? 1 : Math.min(this.#concurrency.limit, maxConnections)
  }

  // An open request claims one piece when others are to work beside it.
  #claim(fetch: Fetch, limit: number): void {
    if (limit === 1 && this.#rest()) return
    fetch.end = Math.min(fetch.end, fetch.at + this.#fetchOptions(fetch.source).pieceBytes)
  }

  #waitOrGiveUp(): void {
    const { queue, now } = this.#options
    const urgent = urgentPiece(this.#plan(Infinity), this.#wanted())
    if (!urgent && !this.#nextPiece(undefined)) return
    const waitMs = queue.waitMs(now())
    clearTimeout(this.#timer)
    if (waitMs !== undefined) this.#timer = setTimeout(() => this.pump(), waitMs)
    else this.#finish(() => this.#done.reject(leastFinal(queue.errors)))
  }

  #finish(settle: () => void): void {
    if (this.#over) return
    this.#over = true
    settle()
  }

  async #fetch(
    source: Source,
    piece: ByteRange,
    { open, apart }: Pick<Fetch, 'open' | 'apart'>,
  ): Promise<void> {
    const { attempt, signal, now } = this.#options
    const stop = new AbortController()
    const whole = piece.start === 0 && (open || piece.end >= (this.#size ?? Infinity))
    const fetch: Fetch = {
      source,
      open,
      apart,
      stop,
      whole,
      startedAt: now(),
      from: piece.start,
      at: piece.start,
      end: piece.end,
      given: 0,
      waitsAt: undefined,
    }
    this.#fetches.add(fetch)
    try {
      const range = open || whole ? { start: piece.start } : piece
      const both = AbortSignal.any([signal, stop.signal])
      await this.#take(fetch, await source.fetch(attempt.digest, range, both))
    } catch (error) {
      this.#lost(fetch, error)
    } finally {
      this.#fetches.delete(fetch)
      this.pump()
    }
  }

  async #take(fetch: Fetch, response: SourceResponse): Promise<void> {
    const { attempt, opened } = this.#options
    const refusal = this.#refusal(fetch, response)
    if (refusal || this.#over || !this.#isUseful(fetch, response)) {
      response.body.discard() // or its connection would wait for a reader for ever
      if (refusal) throw refusal
      return
    }
    this.#size ??= response.size
    attempt.sources.add(fetch.source)
    const now = this.#options.now()
    const width = widthOf(this.#fetchOptions(fetch.source))
    this.#concurrency.opened(now - fetch.startedAt, now, width)
    opened(this.#size)
    if (this.#fetches.size === 1) this.pump() // others may begin beside it
    const from = fetch.at
    const pouring = pour({
      into: attempt,
      body: response.body,
      from: response.start,
      at: from,
      limit: this.#size ?? Infinity,
      end: () => fetch.end,
      taken: (bytes) => this.#taken(fetch, bytes),
      room: (at) => this.#room(fetch, at),
      written: (at) => {
        // What was dropped since is not coming from here.
        fetch.from = attempt.window ? attempt.settled(at) : attempt.readableFrom(fetch.from)
        this.#options.progress()
      },
    })
    const isWanted = await pouring.finally(() =>
      attempt.spans.push({ source: fetch.source, range: { start: from, end: fetch.at } }),
    )
    if (isWanted) this.#concluded(fetch, response)
  }

  #room(fetch: Fetch, at: number): Promise<boolean> | undefined {
    const { attempt, signal } = this.#options
    const { window } = attempt
    if (!window) return undefined
    const answer = window.admits(at, fetch.apart)
    if (answer !== 'wait') return Promise.resolve(answer === 'yes')
    fetch.waitsAt = at
    const room = window.room(at, fetch.apart, AbortSignal.any([signal, fetch.stop.signal]))
    this.pump() // what it will not bring now may be asked for elsewhere
    return room.finally(() => (fetch.waitsAt = undefined))
  }

  #refusal({ source, at }: Fetch, { start, size }: SourceResponse): UpstreamError | undefined {
    if (start > at) return failure(source, 'protocol', `answered from byte ${start}, not ${at}`)
    if (size === undefined || this.#size === undefined || size === this.#size) return undefined
    return failure(source, 'wrong-size', `says ${size} bytes where ${this.#size} are expected`)
  }

  // The whole as the answer to a question for a part: of use only where nobody else is on the way.
  #isUseful(fetch: Fetch, response: SourceResponse): boolean {
    if (response.ranged || fetch.whole) return true
    const isPart = response.start > 0 || response.end !== response.size
    if (isPart && this.#size !== undefined && response.start === fetch.at) return true
    this.#options.queue.ignoresRange(fetch.source)
    if (isPart) return false // of nobody knows how much
    if (fetch.apart) return true // what comes before is passed over
    if (this.#together > 1) return false
    const first = this.#options.attempt.readableFrom(this.#rest({ all: true })?.start ?? 0)
    fetch.from = fetch.at = first
    fetch.end = Infinity
    return true
  }

  #taken(fetch: Fetch, bytes: number): void {
    const { limit } = this.#concurrency
    fetch.at += bytes
    fetch.given += bytes
    this.#concurrency.arrived(bytes, this.#options.now())
    if (fetch.open && fetch.at >= fetch.end) this.#extend(fetch)
    if (this.#concurrency.limit > limit) queueMicrotask(() => this.pump())
  }

  // An open request goes on while nobody has what follows, and nobody is about to.
  #extend(fetch: Fetch): void {
    const rest = this.#rest({ all: this.#options.queue.isUnranged(fetch.source) })
    if (!rest) return
    const plan = this.#plan(this.#fetchOptions(fetch.source).pieceBytes, fetch)
    const next = missingPiece(plan, { start: fetch.at, end: rest.end })
    if (next?.start === fetch.at) fetch.end = next.end
  }

  #concluded(fetch: Fetch, response: SourceResponse): void {
    this.#size ??= fetch.at
    const end = Math.min(fetch.end, response.end ?? fetch.end, this.#size)
    if (fetch.at < end) throw failure(fetch.source, 'cut', `ended at byte ${fetch.at} of ${end}`)
    this.#options.queue.gotOn(fetch.source)
  }

  #lost(fetch: Fetch, error: unknown): void {
    const { queue, signal, attempt, now } = this.#options
    if (signal.aborted || this.#over) return
    if (error instanceof WriteFailed) return this.fail(error)
    if (fetch.stop.signal.aborted) return // asked for again elsewhere, for being slow
    const told = asUpstreamError(error, fetch.source)
    this.#options.failed(told)
    const flowing = fetch.given > 0 || attempt.have.bytes > 0
    queue.failed(fetch, told, flowing, now())
  }

  #look(): void {
    if (this.#options.attempt.window) this.pump() // who reads nothing makes room for who waits
    this.#redialFront()
  }

  // What readers wait for is the front: if that request crawls while others run, it is asked for
  // anew from where it is. So no byte is fetched twice, as by hedging.
  #redialFront(): void {
    const { attempt, queue, now } = this.#options
    const at = attempt.readableFrom(attempt.window ? (this.#rest()?.start ?? 0) : 0)
    const front = [...this.#fetches].find((each) => each.from <= at && at < each.end)
    if (!front || this.#fetches.size < 3 || front.source.health === 'limited') return
    const rate = (each: Fetch) => each.given / Math.max(1, now() - each.startedAt)
    const others = [...this.#fetches].filter((each) => each !== front && each.given > 0)
    const typical = others.map(rate).toSorted((a, b) => a - b)[others.length >> 1] ?? 0
    if (now() - front.startedAt < LOOK_EVERY_MS || rate(front) >= typical * CRAWLS) return
    // Where others from there run well, it is the connection: another endpoint may be worse.
    const isAlone = others.every(({ source }) => source !== front.source)
    if (isAlone) queue.crawled(front.source)
    front.stop.abort()
  }
}

function widthOf({ connections, maxConnections: most }: FetchOptions): ConcurrencyOptions {
  return { connections, most }
}

function failure(
  source: Source,
  reason: 'protocol' | 'wrong-size' | 'wrong-digest' | 'cut',
  what: string,
): UpstreamError {
  return new UpstreamError(reason, `${source.origin} ${what}`, { endpoint: source.origin })
}

function asUpstreamError(error: unknown, source: Source): UpstreamError {
  if (error instanceof UpstreamError) return error
  if (error instanceof OtherBytes) return failure(source, 'wrong-digest', error.message)
  if (error instanceof TooLong) return failure(source, 'wrong-size', `sent ${error.message}`)
  const message = `${source.origin}: ${error instanceof Error ? error.message : String(error)}`
  return new UpstreamError('protocol', message, { endpoint: source.origin, cause: error })
}
