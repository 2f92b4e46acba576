// One request for a piece of a blob: it asks one source and carries what comes into the attempt. It
// goes on past its piece, or ends before, as its end is moved; what to ask next is not its business.
import type { ByteRange } from '../../http/range.ts'
import type { Source, SourceResponse } from '../../upstream/face/source.ts'
import type { Attempt } from './attempt.ts'
import { pour } from './write-body.ts'
import { refusalOf, sourceFault } from './errors.ts'

/** Who asked, as the request knows it. */
export interface PieceAsker {
  readonly attempt: Attempt
  readonly signal: AbortSignal
  /** Nothing is wanted any more. */
  readonly isOver: boolean
  /** Of the blob, in bytes; undefined until somebody said it. */
  readonly size: number | undefined
  /** Milliseconds, monotonic. */
  now(): number
  /** An answer began. False: it is of no use. It may set where the request is, and its end. */
  isUseful(request: PieceRequest, response: SourceResponse): boolean
  /** An answer of use began. */
  opened(request: PieceRequest, response: SourceResponse): void
  /** So many bytes came, and wait to be written. */
  arrived(request: PieceRequest, bytes: number): void
  /** Bytes became readable. */
  progress(): void
  /** What it brings waits for readers. */
  waits(): void
}

export interface PieceRequestOptions {
  readonly asker: PieceAsker
  readonly source: Source
  readonly piece: ByteRange
  /** Asked for without an end: it goes on until it meets what is here or on its way. */
  readonly open: boolean
  /** For a reader that is elsewhere than the others. */
  readonly apart: boolean
}

export class PieceRequest {
  readonly source: Source
  readonly open: boolean
  readonly apart: boolean
  /** Asked for as the whole blob, without Range. */
  readonly whole: boolean
  /** Milliseconds, monotonic. */
  readonly startedAt: number
  /** Its first byte that cannot be read yet. */
  from: number
  /** The next byte it will get. */
  at: number
  /** Where it will stop. */
  end: number
  #given = 0
  #waitsAt: number | undefined
  readonly #asker: PieceAsker
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal

  constructor({ asker, source, piece, open, apart }: PieceRequestOptions) {
    this.#asker = asker
    this.source = source
    this.open = open
    this.apart = apart
    this.whole = piece.start === 0 && (open || piece.end >= (asker.size ?? Infinity))
    this.startedAt = asker.now()
    this.from = piece.start
    this.at = piece.start
    this.end = piece.end
    this.#signal = AbortSignal.any([asker.signal, this.#stop.signal])
  }

  /** How many bytes came of it. */
  get given(): number {
    return this.#given
  }

  get isStopped(): boolean {
    return this.#stop.signal.aborted
  }

  /** What it brings waits to be written, until readers have gone on. */
  get isWaiting(): boolean {
    const { window } = this.#asker.attempt
    return this.#waitsAt !== undefined && window?.admits(this.#waitsAt, this.apart) === 'wait'
  }

  /** Where what it is about to bring ends: one that waits for readers brings nothing of what follows. */
  get upTo(): number {
    return this.isWaiting ? Math.min(this.at, this.end) : this.end
  }

  /** It is asked for again elsewhere, or nobody waits for it. */
  stop(): void {
    this.#stop.abort()
  }

  /**
   * Ends when all of it is here: true; or false, where nobody wants it, or the rest of it.
   * @throws what the source throws, UpstreamError, and what `pour` throws
   */
  async run(): Promise<boolean> {
    const { source, open, whole, from: start, end } = this
    const range = open || whole ? { start } : { start, end }
    const response = await source.fetch(this.#asker.attempt.digest, range, this.#signal)
    if (!this.#accept(response)) return false
    this.#asker.opened(this, response)
    if (!(await this.#pour(response))) return false
    this.#checkEnd(response)
    return true
  }

  #accept(response: SourceResponse): boolean {
    const refusal = refusalOf(this.source, response, { at: this.at, size: this.#asker.size })
    if (!refusal && !this.#asker.isOver && this.#asker.isUseful(this, response)) return true
    response.body.discard() // or its connection would wait for a reader for ever
    if (refusal) throw refusal
    return false
  }

  /** @returns false where nobody wants the rest */
  async #pour({ body, start }: SourceResponse): Promise<boolean> {
    const { attempt, size = Infinity } = this.#asker
    const from = this.at
    const end = () => this.end
    const taken = (bytes: number) => this.#taken(bytes)
    const room = (at: number) => this.#room(at)
    const written = (at: number) => this.#written(at)
    const pouring = { into: attempt, body, from: start, at: from, limit: size, end }
    try {
      return await pour({ ...pouring, taken, room, written })
    } finally {
      attempt.spans.push({ source: this.source, range: { start: from, end: this.at } })
    }
  }

  #taken(bytes: number): void {
    this.at += bytes
    this.#given += bytes
    this.#asker.arrived(this, bytes)
  }

  #written(at: number): void {
    const { attempt } = this.#asker
    // What was dropped since is not coming from here.
    this.from = attempt.window ? attempt.settled(at) : attempt.readableFrom(this.from)
    this.#asker.progress()
  }

  #room(at: number): Promise<boolean> | undefined {
    const { window } = this.#asker.attempt
    if (!window) return undefined
    const answer = window.admits(at, this.apart)
    if (answer !== 'wait') return Promise.resolve(answer === 'yes')
    this.#waitsAt = at
    const room = window.room(at, this.apart, this.#signal)
    this.#asker.waits() // what it will not bring now may be asked for elsewhere
    return room.finally(() => (this.#waitsAt = undefined))
  }

  #checkEnd(response: SourceResponse): void {
    const { size = this.at } = this.#asker
    const end = Math.min(this.end, response.end ?? this.end, size)
    if (this.at < end) throw sourceFault(this.source, 'cut', `ended at byte ${this.at} of ${end}`)
  }
}
