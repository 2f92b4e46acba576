// One request for a piece of a blob: it asks one source and writes what comes into the attempt. Its end may
// move while it runs, past its piece or back; what to ask for next is not its business.
import type { ByteRange } from '../../http/range.ts'
import type { Source, SourceResponse } from '../../upstream/face/source.ts'
import type { Attempt } from './attempt.ts'
import { endedAt, refusalOf, sourceFault } from './errors.ts'
import type { SizeClaims } from './size-claims.ts'
import { writeBody } from './write-body.ts'

/** The fetch that makes the request, as the request knows it. */
export interface RequestOwner {
  readonly attempt: Attempt
  readonly signal: AbortSignal
  /** Nothing is wanted any more. */
  readonly isOver: boolean
  /** The size of the blob in bytes; undefined until an upstream has announced it. */
  readonly size: number | undefined
  /** The same, or what manifests claim while no upstream has announced it. */
  readonly expectedSize: number | undefined
  readonly claims: SizeClaims
  /** Milliseconds, monotonic. */
  now(): number
  /** Reports whether an answer is of use. It may move where the request is, and its end. */
  isUseful(request: RangeRequest, response: SourceResponse): boolean
  /** A useful answer began. */
  opened(request: RangeRequest, response: SourceResponse): void
  /** So many bytes came, and wait to be written. */
  arrived(request: RangeRequest, bytes: number): void
  /** Bytes became readable. */
  progress(): void
  /** A body of unknown length ended: that is the size of the blob, in bytes. */
  ended(size: number): void
}

export interface RangeRequestOptions {
  readonly owner: RequestOwner
  readonly source: Source
  readonly piece: ByteRange
  /** Asked for without an end: it goes on until it meets what is here or on its way. */
  readonly isOpen: boolean
}

export class RangeRequest {
  readonly source: Source
  readonly isOpen: boolean
  /** Asked for as the whole blob, without Range. */
  readonly isWhole: boolean
  /** Milliseconds, monotonic. */
  readonly startedAt: number
  /** Its first byte that cannot be read yet. */
  pendingFrom: number
  /** The next byte that it will get. */
  at: number
  /** Where it will stop. */
  end: number
  #given = 0
  readonly #owner: RequestOwner
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal

  constructor({ owner, source, piece, isOpen }: RangeRequestOptions) {
    this.#owner = owner
    this.source = source
    this.isOpen = isOpen
    this.isWhole = piece.start === 0 && (isOpen || piece.end >= (owner.expectedSize ?? Infinity))
    this.startedAt = owner.now()
    this.pendingFrom = piece.start
    this.at = piece.start
    this.end = piece.end
    this.#signal = AbortSignal.any([owner.signal, this.#stop.signal])
  }

  /** How many bytes it has brought. */
  get given(): number {
    return this.#given
  }

  get isStopped(): boolean {
    return this.#stop.signal.aborted
  }

  /** Ends it: what it has not brought is asked for elsewhere, or nobody waits for it. */
  stop(): void {
    this.#stop.abort()
  }

  /** Ends the request where it is now, to keep its connection. */
  endWithin(bytes: number): void {
    this.end = Math.min(this.end, this.at + bytes)
  }

  /**
   * Returns whether the answer was of use, once all of it is here.
   * Throws what the source throws, UpstreamError, and what `writeBody` throws.
   */
  async run(): Promise<boolean> {
    const { source, isOpen, isWhole, pendingFrom: start, end } = this
    const range = isOpen || isWhole ? { start } : { start, end }
    const response = await source.fetch(this.#owner.attempt.digest, range, this.#signal)
    if (!this.#accept(response)) return false
    this.#owner.opened(this, response)
    await this.#write(response)
    this.#checkEnd(response)
    return true
  }

  #accept(response: SourceResponse): boolean {
    const refusal = refusalOf(this.source, response, { at: this.at, size: this.#owner.size })
    if (!refusal && !this.#owner.isOver && this.#owner.isUseful(this, response)) return true
    response.body.discard() // or its connection would wait for a reader for ever
    if (refusal) throw refusal
    return false
  }

  async #write({ body, start }: SourceResponse): Promise<void> {
    const { attempt } = this.#owner
    const from = this.at
    try {
      await writeBody({
        into: attempt,
        body,
        from: start,
        at: from,
        limit: () => this.#owner.size ?? Infinity,
        end: () => this.end,
        onChunk: (bytes) => this.#arrived(bytes),
        written: () => this.#written(),
      })
    } finally {
      attempt.spans.push({ source: this.source, range: { start: from, end: this.at } })
    }
  }

  #arrived(bytes: number): void {
    this.at += bytes
    this.#given += bytes
    this.#owner.arrived(this, bytes)
  }

  #written(): void {
    this.pendingFrom = this.#owner.attempt.have.endFrom(this.pendingFrom)
    this.#owner.progress()
  }

  #checkEnd(response: SourceResponse): void {
    const { size = Infinity, claims } = this.#owner
    const announced = Math.min(response.end ?? Infinity, size)
    const end = Math.min(this.end, announced)
    if (this.at >= end) return
    if (announced === Infinity && claims.mayEndAt(this.at)) return this.#owner.ended(this.at)
    throw sourceFault(this.source, 'cut', endedAt(this.at, end))
  }
}
