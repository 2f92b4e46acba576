// One response's view of a download: it waits only for the bytes it lacks, and holds back what is
// not verified yet. It outlives the attempt it began on when that turned out to be corrupt.
import type { Digest } from '../../oci/digest.ts'
import type { ByteRange } from '../../http/range.ts'
import type { Attempt } from '../fetch/attempt.ts'
import type { Content } from '../content.ts'
import { stretchesAhead } from '../fetch/read-ahead.ts'

/** A whole response keeps its last bytes until the digest is right. */
export const HELD_BACK_BYTES = 64 * 1024
/** A body up to this size is sent only when verified. */
export const SENT_VERIFIED_BYTES = 1024 * 1024

/** How often a reader tells how far it is. */
const STEP_BYTES = 256 * 1024

/** What a reader needs to know of its download. */
export interface DownloadView {
  readonly digest: Digest
  readonly size: number | undefined
  readonly failure: Error | undefined
  /** Bytes of this digest were wrong before: a client that resumes may hold bad ones already. */
  readonly suspect: boolean
  /** A reader said what it will read. */
  planned(): void
  /** A reader waits for the byte at `at`. */
  waits(at: number): void
  /** A reader has read on, by so much that it may matter. */
  moved(): void
  /** What is here cannot be read. False: there is no other way to it. */
  lost(attempt: Attempt, error: unknown): boolean
  left(reader: DownloadReader): void
}

export class DownloadReader implements Content {
  readonly #download: DownloadView
  #attempt: Attempt
  #failure: Error | undefined
  #whole = true
  #planned: readonly ByteRange[] | undefined
  #position = 0
  /** Of the planned ones, the index of the one that is read. */
  #part = 0
  #promised: number | undefined
  #closed = false
  #wake: (() => void) | undefined
  // What this reader was given, as one span: [#first, #last).
  #first = Infinity
  #last = 0

  constructor(download: DownloadView, attempt: Attempt) {
    this.#download = download
    this.#attempt = attempt
    attempt.retain()
  }

  get digest(): Digest {
    return this.#download.digest
  }

  get size(): number | undefined {
    return this.#download.size
  }

  get attempt(): Attempt {
    return this.#attempt
  }

  /** All that it was given is what the digest names. */
  get verified(): boolean {
    return this.#attempt.verified
  }

  /** The span of bytes handed out so far; empty when none were. */
  get given(): ByteRange {
    return this.#first < this.#last ? { start: this.#first, end: this.#last } : { start: 0, end: 0 }
  }

  plan(ranges: readonly ByteRange[] | undefined): void {
    const only = ranges?.length === 1 ? ranges[0] : undefined
    this.#whole = ranges === undefined || (only?.start === 0 && only.end === this.size)
    this.#planned = ranges ?? [{ start: 0, end: Infinity }]
    this.#position = this.#planned[0]?.start ?? 0
    this.#part = 0
    this.#download.planned()
  }

  /** Everything is to be read; undefined until it is known. */
  get whole(): boolean | undefined {
    return this.#planned && this.#whole
  }

  /** What is still to be read, from where the reader is to the end of its present range. */
  get wanted(): ByteRange | undefined {
    const at = this.#position
    const range = this.#planned?.find(({ start, end }) => start <= at && at < end)
    return range && { start: at, end: range.end }
  }

  /** The same, and of several parts what is missing of those that follow. */
  get wantedNext(): readonly ByteRange[] {
    const { wanted } = this
    const parts = this.#planned ?? []
    if (parts.length < 2) return wanted ? [wanted] : []
    return stretchesAhead(parts, this.#part, this.#attempt.have)
  }

  /** It waits for the first byte of that. */
  get waits(): boolean {
    return this.#wake !== undefined
  }

  promise(): void {
    this.#promised = this.size
  }

  /** Whether `size` is what this reader's response announced, if it announced any. */
  promised(size: number | undefined): boolean {
    return this.#promised === undefined || this.#promised === size
  }

  available(at: number): number {
    const attempt = this.#attempt
    const readable = this.#whole ? attempt.provenFrom(at) : attempt.readableFrom(at)
    return Math.max(0, Math.min(readable, this.#trustedTo()) - at)
  }

  async wait(at: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    while (this.available(at) === 0) {
      if (this.#isEnd(at)) return
      const failure = this.#failure ?? this.#download.failure
      if (failure) throw failure
      if (this.#closed) throw new Error('the reader was closed')
      this.#position = at
      this.#part = this.#partAt(at)
      const progress = this.#progress(signal)
      this.#download.waits(at)
      await progress
    }
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    const length = Math.min(into.length, this.available(at))
    if (length === 0) return 0
    const count = await this.#readAttempt(into.subarray(0, length), at)
    const before = this.#position
    this.#position = at + count
    if (stepOf(before) !== stepOf(this.#position)) this.#download.moved()
    return count
  }

  // Of a file that cannot be read any more nothing is there: it comes in another way.
  async #readAttempt(into: Uint8Array, at: number): Promise<number> {
    const attempt = this.#attempt
    const given = { first: this.#first, last: this.#last }
    this.#first = Math.min(this.#first, at)
    this.#last = Math.max(this.#last, at + into.length)
    try {
      return await attempt.read(into, at)
    } catch (error) {
      this.#first = given.first
      this.#last = given.last
      if (this.#closed || !this.#download.lost(attempt, error)) throw error
      return 0
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.wake()
    this.#download.left(this)
    await this.#attempt.release()
  }

  /** Something changed: bytes arrived, the digest was verified, the download failed. */
  wake(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  /** Goes on from a good attempt, all that was given being the same in both. */
  async moveTo(attempt: Attempt): Promise<void> {
    if (this.#closed) return
    const before = this.#attempt
    attempt.retain()
    this.#attempt = attempt
    this.wake()
    await before.release()
  }

  /** This reader alone cannot go on: it was given bytes that are wrong. */
  cut(failure: Error): void {
    this.#failure = failure
    this.wake()
  }

  // They are read in their order, and may be anywhere.
  #partAt(at: number): number {
    const parts = this.#planned ?? []
    for (let part = this.#part; part < parts.length; part++) {
      const { start, end } = parts[part]!
      if (start <= at && at < end) return part
    }
    return this.#part
  }

  // The first offset that may not be sent yet.
  #trustedTo(): number {
    if (this.#failure) return 0
    if (this.#attempt.verified) return Infinity
    if (this.#attempt.mismatch || this.#attempt.isLost) return 0
    if (!this.#whole) return this.#download.suspect ? 0 : Infinity
    const end = this.size ?? this.#attempt.frontier
    return end <= SENT_VERIFIED_BYTES ? 0 : end - HELD_BACK_BYTES
  }

  #isEnd(at: number): boolean {
    return this.#attempt.verified && this.size !== undefined && at >= this.size
  }

  #progress(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const aborted = () => {
        this.#wake = undefined
        reject(signal.reason)
      }
      signal.addEventListener('abort', aborted, { once: true })
      this.#wake = () => {
        signal.removeEventListener('abort', aborted)
        resolve()
      }
    })
  }
}

function stepOf(position: number): number {
  return Math.floor(position / STEP_BYTES)
}
