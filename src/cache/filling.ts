// Fills one attempt from its sources: several pieces at a time where the link is far, in order from
// the front, but first of all where a reader waits. What broke is asked for again from where it
// broke, there or elsewhere. It neither verifies nor keeps.
import type { ByteRange } from '../http/range.ts'
import { leastFinal, UpstreamError } from '../upstream/failure.ts'
import type { Source, SourceResponse } from '../upstream/source.ts'
import type { Attempt } from './attempt.ts'
import { Concurrency, type ConcurrencyOptions } from './concurrency.ts'
import { isComing, missingPiece, type PiecePlanOptions, urgentPiece } from './piece-plan.ts'
import { pour, TooLong, WriteFailed } from './pour.ts'
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
  readonly stop: AbortController
  from: number
  at: number
  end: number
  given: number
}

/** The front is looked at so often. */
const LOOK_EVERY_MS = 1000
/** The front piece is asked for again when it is this much slower than the others. */
const CRAWLS = 0.2

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
    const look = setInterval(() => this.#redialFront(), LOOK_EVERY_MS)
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

  /** Whether what a reader waits for at `at` is about to come by itself. */
  isComing(at: number): boolean {
    return isComing([...this.#fetches], at)
  }

  /** Looks at what is to be asked for: something arrived, is wanted, or a source joined. */
  pump(): void {
    if (this.#over) return
    if (this.#isComplete()) return this.#finish(() => this.#done.resolve())
    while (this.#startOne()) {
      // as many as there is a piece, a source and room for
    }
    if (this.#fetches.size === 0) this.#waitOrGiveUp()
  }

  #isComplete(): boolean {
    const { attempt } = this.#options
    return this.#size !== undefined && attempt.holds(this.#size)
  }

  #startOne(): boolean {
    return this.#startUrgent() || this.#startNext()
  }

  // Where a reader waits comes first, though others are asked already, and from whoever has it.
  #startUrgent(): boolean {
    const { wanted, queue, now } = this.#options
    const others = this.#fetches.size
    const source = queue.next(now(), { ranged: others > 0 })
    const { pieceBytes, maxConnections } = this.#fetchOptions(source)
    if (!source || others >= maxConnections) return false
    const piece = urgentPiece(this.#plan(pieceBytes), wanted())
    if (!piece) return false
    void this.#fetch(source, piece, false)
    return true
  }

  // Then in order what is read, or all, from the source that comes first.
  #startNext(): boolean {
    const { queue, now } = this.#options
    const source = queue.next(now())
    if (!source || (this.#fetches.size > 0 && queue.isUnranged(source))) return false
    const piece = this.#nextPiece(source)
    if (!piece) return false
    const open = this.#limit(source) === 1 && piece.end === (this.#size ?? Infinity)
    void this.#fetch(source, piece, open)
    return true
  }

  #nextPiece(source: Source | undefined): ByteRange | undefined {
    const { wanted, fill, queue } = this.#options
    const limit = this.#limit(source)
    if (this.#fetches.size >= limit) return undefined
    for (const each of this.#fetches) if (each.open) this.#claim(each, limit)
    const plan = this.#plan(limit === 1 ? Infinity : this.#fetchOptions(source).pieceBytes)
    if (fill() || (source && queue.isUnranged(source))) {
      return missingPiece(plan, { start: 0, end: Infinity })
    }
    for (const range of wanted()) {
      const piece = missingPiece(plan, range)
      if (piece) return piece
    }
    return undefined
  }

  #plan(pieceBytes: number, but?: Fetch): PiecePlanOptions {
    const running = [...this.#fetches].filter((each) => each !== but)
    return { have: this.#options.attempt.have, running, size: this.#size, pieceBytes }
  }

  // As for all, but for what its host has of its own.
  #fetchOptions(source: Source | undefined): FetchOptions {
    return { ...this.#options.fetch, ...source?.fetchOptions }
  }

  // Without a size nobody knows where the pieces end.
  #limit(source: Source | undefined): number {
    const single = this.#size === undefined || (source && this.#options.queue.isUnranged(source))
    const { maxConnections } = this.#fetchOptions(source)
    return single ? 1 : Math.min(this.#concurrency.limit, maxConnections)
  }

  // An open request claims one piece when others are to work beside it.
  #claim(fetch: Fetch, limit: number): void {
    if (limit === 1 && this.#options.fill()) return
    fetch.end = Math.min(fetch.end, fetch.at + this.#fetchOptions(fetch.source).pieceBytes)
  }

  #waitOrGiveUp(): void {
    const { queue, now } = this.#options
    const urgent = urgentPiece(this.#plan(Infinity), this.#options.wanted())
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

  async #fetch(source: Source, piece: ByteRange, open: boolean): Promise<void> {
    const { attempt, signal, now } = this.#options
    const stop = new AbortController()
    const fetch: Fetch = {
      source,
      open,
      stop,
      startedAt: now(),
      from: piece.start,
      at: piece.start,
      end: piece.end,
      given: 0,
    }
    this.#fetches.add(fetch)
    try {
      const whole = open || (piece.start === 0 && piece.end === this.#size)
      const range = whole ? { start: piece.start } : piece
      const both = AbortSignal.any([signal, stop.signal])
      await this.#take(fetch, await source.fetch(attempt.ingest.digest, range, both))
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
    if (fetch.open) this.pump() // others may begin beside it
    const from = fetch.at
    await pour({
      ingest: attempt.ingest,
      body: response.body,
      from: response.start,
      at: from,
      limit: this.#size ?? Infinity,
      end: () => fetch.end,
      taken: (bytes) => this.#taken(fetch, bytes),
      written: () => {
        fetch.from = attempt.readableFrom(fetch.from)
        this.#options.progress()
      },
    }).finally(() =>
      attempt.spans.push({ source: fetch.source, range: { start: from, end: fetch.at } }),
    )
    this.#concluded(fetch, response)
  }

  #refusal({ source, at }: Fetch, { start, size }: SourceResponse): UpstreamError | undefined {
    if (start > at) return failure(source, 'protocol', `answered from byte ${start}, not ${at}`)
    if (size === undefined || this.#size === undefined || size === this.#size) return undefined
    return failure(source, 'wrong-size', `says ${size} bytes where ${this.#size} are expected`)
  }

  // An answer from 0 to a question for a part: of use only where nobody else is on the way.
  #isUseful(fetch: Fetch, response: SourceResponse): boolean {
    if (response.ranged || response.start === fetch.at) return true
    this.#options.queue.ignoresRange(fetch.source)
    if (this.#fetches.size > 1) return false
    const first = this.#options.attempt.readableFrom(0)
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
    if (!this.#options.fill() && !this.#options.queue.isUnranged(fetch.source)) return
    const plan = this.#plan(this.#fetchOptions(fetch.source).pieceBytes, fetch)
    const next = missingPiece(plan, { start: fetch.at, end: Infinity })
    if (next?.start === fetch.at) fetch.end = next.end
  }

  #concluded(fetch: Fetch, response: SourceResponse): void {
    if (this.#size === undefined) this.#size = this.#options.attempt.readableFrom(0)
    const end = Math.min(fetch.end, response.end ?? fetch.end, this.#size)
    if (fetch.at < end) throw failure(fetch.source, 'cut', `ended at byte ${fetch.at} of ${end}`)
    this.#options.queue.gotOn(fetch.source)
  }

  #lost(fetch: Fetch, error: unknown): void {
    const { queue, signal, attempt, now } = this.#options
    if (signal.aborted || this.#over) return
    if (error instanceof WriteFailed) return this.#finish(() => this.#done.reject(error))
    if (fetch.stop.signal.aborted) return // asked for again elsewhere, for being slow
    const told = asUpstreamError(error, fetch.source)
    this.#options.failed(told)
    const flowing = fetch.given > 0 || attempt.have.bytes > 0
    queue.failed(fetch, told, flowing, now())
  }

  // What readers wait for is the front: if that request crawls while others run, it is asked for
  // anew, elsewhere if there is an elsewhere.
  #redialFront(): void {
    const { attempt, queue, now } = this.#options
    const at = attempt.readableFrom(0)
    const front = [...this.#fetches].find((each) => each.at <= at + 1 && at < each.end)
    if (!front || this.#fetches.size < 3 || front.source.health === 'limited') return
    const rate = (each: Fetch) => each.given / Math.max(1, now() - each.startedAt)
    const others = [...this.#fetches].filter((each) => each !== front && each.given > 0)
    const typical = others.map(rate).toSorted((a, b) => a - b)[others.length >> 1] ?? 0
    if (now() - front.startedAt < LOOK_EVERY_MS || rate(front) >= typical * CRAWLS) return
    queue.crawled(front.source)
    front.stop.abort()
  }
}

function widthOf({ connections, maxConnections: most }: FetchOptions): ConcurrencyOptions {
  return { connections, most }
}

function failure(
  source: Source,
  reason: 'protocol' | 'wrong-size' | 'cut',
  what: string,
): UpstreamError {
  return new UpstreamError(reason, `${source.origin} ${what}`, { endpoint: source.origin })
}

function asUpstreamError(error: unknown, source: Source): UpstreamError {
  if (error instanceof UpstreamError) return error
  if (error instanceof TooLong) return failure(source, 'wrong-size', `sent ${error.message}`)
  const message = `${source.origin}: ${error instanceof Error ? error.message : String(error)}`
  return new UpstreamError('protocol', message, { endpoint: source.origin, cause: error })
}
