// One try at filling a blob: the local file and whether its bytes can be trusted. Readers of it and
// the download that fills it hold it together; the last one out closes the file.
import type { Intervals } from '../http/intervals.ts'
import type { ByteRange } from '../http/range.ts'
import type { Ingest } from '../store/ingest.ts'
import type { UpstreamError } from '../upstream/failure.ts'
import type { Source } from '../upstream/source.ts'

const COMPARED_BYTES = 256 * 1024

export class Attempt {
  readonly ingest: Ingest
  /** Every source that gave bytes. */
  readonly sources = new Set<Source>()
  /** It began with what an earlier download left: nobody knows any more who gave that. */
  readonly resumed: boolean
  /** What is here is of use to a later download: it is left for it. */
  leave = false
  verified = false
  /** Why its bytes are not what the digest names, once that is known. */
  mismatch: UpstreamError | undefined
  #holders = 1

  constructor(ingest: Ingest) {
    this.ingest = ingest
    this.resumed = ingest.have().bytes > 0
  }

  /** Which source gave what. */
  readonly spans: { readonly source: Source; readonly range: ByteRange }[] = []

  /** The bytes that are here, live. */
  get have(): Intervals {
    return this.ingest.have()
  }

  /** The first offset at or after `at` that has not arrived. */
  readableFrom(at: number): number {
    return this.have.endFrom(at)
  }

  /** Whether all of a blob of this size is here. */
  holds(size: number): boolean {
    return this.have.has(0, size)
  }

  read(into: Uint8Array, at: number): Promise<number> {
    return this.ingest.read(into, at)
  }

  retain(): void {
    this.#holders += 1
  }

  async release(): Promise<void> {
    this.#holders -= 1
    if (this.#holders > 0) return
    await (this.leave ? this.ingest.suspend() : this.ingest.close())
  }

  /** Whether another attempt holds the same bytes in [start, end). */
  async agrees(other: Attempt, start: number, end: number): Promise<boolean> {
    const mine = Buffer.allocUnsafe(COMPARED_BYTES)
    const theirs = Buffer.allocUnsafe(COMPARED_BYTES)
    for (let at = start; at < end;) {
      const length = Math.min(COMPARED_BYTES, end - at)
      const read = await this.read(mine.subarray(0, length), at)
      if (read === 0 || (await other.read(theirs.subarray(0, read), at)) !== read) return false
      if (mine.compare(theirs, 0, read, 0, read) !== 0) return false
      at += read
    }
    return true
  }
}
