// One response's view of a download: it waits only for the bytes that it lacks, and holds back what is not
// verified yet. It goes on from another attempt when its own proves to be corrupt, and from the bypass when
// nothing can be written.
import type { ByteRange } from '../../http/range.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Bypass } from '../bypass/bypass.ts'
import type { BypassClient, BypassReader } from '../bypass/bypass-reader.ts'
import type { Content } from '../content.ts'
import type { Attempt } from '../fetch/attempt.ts'
import { wrongPromiseError } from '../fetch/errors.ts'
import { stretchesAhead } from '../fetch/read-ahead.ts'

/** A whole response keeps this many bytes back until the digest is right. */
const HELD_BACK_BYTES = 64 * 1024
/** A body up to this size is sent only when verified. */
const SENT_VERIFIED_BYTES = 1024 * 1024

/** Returns how much of a whole body of `size` bytes may be sent before it is verified. */
export function unverifiedEnd(size: number): number {
  return size <= SENT_VERIFIED_BYTES ? 0 : size - HELD_BACK_BYTES
}

/** What a reader needs to know of its download. */
export interface DownloadView {
  readonly digest: Digest
  /** In bytes, once an upstream has announced it or the digest has shown it. */
  readonly size: number | undefined
  readonly failure: Error | undefined
  /** Bytes of this digest were wrong before: a client that resumes may hold bad ones already. */
  readonly suspect: boolean
  /** A reader said what it will read. */
  planned(): void
  /** A reader waits for the byte at `at`. */
  waits(at: number): void
  /** What is here cannot be read. Returns whether there is another way to it. */
  lost(attempt: Attempt, error: unknown): boolean
  left(reader: DownloadReader): void
}

export class DownloadReader implements Content, BypassClient {
  readonly #download: DownloadView
  /** What this reader's manifest says, in bytes. */
  readonly #claimedSize: number | undefined
  /** Undefined where nothing could be written from the start. */
  #attempt: Attempt | undefined
  #bypass: BypassReader | undefined
  #failure: Error | undefined
  #whole = true
  #planned: readonly ByteRange[] | undefined
  /** The size by which the response was planned, if that was only claimed. */
  #plannedBy: number | undefined
  #position = 0
  /** The index of the planned range that is being read. */
  #part = 0
  #promised: number | undefined
  #closed = false
  #wake: (() => void) | undefined
  // What this reader was given, as one span: [#first, #last).
  #first = Infinity
  #last = 0

  constructor(download: DownloadView, attempt: Attempt | undefined, claimedSize?: number) {
    this.#download = download
    this.#claimedSize = claimedSize
    this.#attempt = attempt
    attempt?.retain()
  }

  get digest(): Digest {
    return this.#download.digest
  }

  get size(): number | undefined {
    return this.#download.size ?? this.#claimedSize
  }

  get isSizeClaimed(): boolean {
    return this.#download.size === undefined && this.#claimedSize !== undefined
  }

  /** Reports whether this reader's manifest, or the head of its response, says another size than the upstream. */
  get isDisputed(): boolean {
    const { size } = this.#download
    if (size === undefined) return false
    return !this.promised(size) || (this.#claimedSize ?? size) !== size
  }

  get attempt(): Attempt | undefined {
    return this.#attempt
  }

  /** Everything that it was given is what the digest names. */
  get verified(): boolean {
    return (this.#bypass ?? this.#attempt)?.isVerified === true
  }

  get given(): ByteRange {
    return this.#first < this.#last ? { start: this.#first, end: this.#last } : { start: 0, end: 0 }
  }

  get isWhole(): boolean {
    return this.#whole
  }

  plan(ranges: readonly ByteRange[] | undefined): void {
    const only = ranges?.length === 1 ? ranges[0] : undefined
    this.#whole = ranges === undefined || (only?.start === 0 && only.end === this.size)
    // The whole goes on to its end, wherever that is: the size may only be claimed.
    this.#planned = this.#whole || ranges === undefined ? [{ start: 0, end: Infinity }] : ranges
    this.#plannedBy = this.isSizeClaimed ? this.#claimedSize : undefined
    this.#position = this.#planned[0]?.start ?? 0
    this.#part = 0
    this.#download.planned()
  }

  /** Whether everything is to be read; undefined until that is known. */
  get whole(): boolean | undefined {
    return this.#planned && this.#whole
  }

  /** What is missing of what is to be read next: the rest of the present range, and of several parts of those that follow. */
  get upcoming(): readonly ByteRange[] {
    const parts = this.#planned ?? []
    const at = this.#position
    if (parts.length > 1 && this.#attempt)
      return stretchesAhead(parts, this.#part, this.#attempt.have)
    const range = parts.find(({ start, end }) => start <= at && at < end)
    return range ? [{ start: at, end: range.end }] : []
  }

  stretchEnd(at: number): number {
    const parts = this.#planned ?? []
    const everything = { missing: (start: number, end: number) => [{ start, end }] }
    const [stretch] = stretchesAhead(parts, this.#partAt(at), everything)
    return stretch?.end ?? Infinity
  }

  promise(): void {
    this.#promised = this.size
  }

  /** Reports whether `size` is what this reader's response announced, if it announced any. */
  promised(size: number | undefined): boolean {
    return this.#promised === undefined || this.#promised === size
  }

  available(at: number): number {
    if (this.#failure || this.#isPromiseBroken) return 0
    if (this.#bypass) return this.#bypass.available(at)
    const end = this.#attempt?.have.endFrom(at) ?? at
    return Math.max(0, Math.min(end, this.#trustedTo()) - at)
  }

  async wait(at: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    while (this.available(at) === 0) {
      if (this.#isPromiseBroken) throw wrongPromiseError(this.digest, this.#promised)
      const failure = this.#failure ?? this.#download.failure
      if ((this.#isEnd(at) || this.#isPlannedWrong) && !this.#failure) return
      if (failure) throw failure
      if (this.#closed) throw new Error('the reader was closed')
      this.#position = at
      this.#part = this.#partAt(at)
      const progress = this.#progress(signal)
      if (this.#bypass) this.#bypass.need(at)
      else this.#download.waits(at)
      await progress
    }
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    const length = Math.min(into.length, this.available(at))
    if (length === 0) return 0
    const part = into.subarray(0, length)
    const count = await (this.#bypass ? this.#readBypass(part, at) : this.#readAttempt(part, at))
    this.#position = at + count
    return count
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.wake()
    this.#bypass?.close()
    this.#download.left(this)
    await this.#attempt?.release()
  }

  /** Something changed: bytes arrived, the digest was verified, the download failed. */
  wake(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  /** Goes on from a good attempt that has the same bytes where this reader was given any. */
  async moveTo(attempt: Attempt): Promise<void> {
    if (this.#closed) return
    const before = this.#attempt
    attempt.retain()
    this.#attempt = attempt
    this.wake()
    await before?.release()
  }

  /** Goes on past the disk, which cannot be written. */
  follow(bypass: Bypass): void {
    if (this.#closed || this.#failure) return
    this.#bypass = bypass.reader(this)
    this.wake()
  }

  cut(failure: Error): void {
    this.#failure = failure
    this.wake()
  }

  async #readBypass(into: Uint8Array, at: number): Promise<number> {
    const count = (await this.#bypass?.read(into, at)) ?? 0
    if (count > 0) this.#give(at, at + count)
    return count
  }

  // A file that cannot be read any more has nothing: the bytes come in another way.
  async #readAttempt(into: Uint8Array, at: number): Promise<number> {
    const attempt = this.#attempt!
    const given = { first: this.#first, last: this.#last }
    this.#give(at, at + into.length)
    try {
      return await attempt.read(into, at)
    } catch (error) {
      this.#first = given.first
      this.#last = given.last
      if (this.#closed || !this.#download.lost(attempt, error)) throw error
      return 0
    }
  }

  #give(first: number, last: number): void {
    this.#first = Math.min(this.#first, first)
    this.#last = Math.max(this.#last, last)
  }

  // The parts are read in their order, and may be anywhere.
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
    const attempt = this.#attempt
    if (attempt === undefined || attempt.mismatch || attempt.isLost) return 0
    if (attempt.isVerified) return Infinity
    if (this.isDisputed) return 0
    if (!this.#whole) return this.#download.suspect ? 0 : Infinity
    return unverifiedEnd(this.#download.size ?? attempt.contiguousEnd)
  }

  // Its response can be planned anew by the size that the upstream announces.
  get #isPlannedWrong(): boolean {
    const { size } = this.#download
    if (this.#promised !== undefined || this.#plannedBy === undefined) return false
    return size !== undefined && size !== this.#plannedBy
  }

  // Its response has announced another size than the blob has, and cannot be completed. A blob that
  // bypasses the disk does not wait for the digest to show that: memory does not hold all of it.
  get #isPromiseBroken(): boolean {
    const { size } = this.#download
    if (size === undefined || this.promised(size)) return false
    return this.#bypass !== undefined || this.#attempt?.isVerified === true
  }

  #isEnd(at: number): boolean {
    return this.verified && this.size !== undefined && at >= this.size
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
