// One attempt to fill a blob: its file, who gave the bytes, and whether they can be trusted. The download
// that fills it and the readers that read it hold it together; the last one out closes the file.
import type { Intervals } from '../../http/intervals.ts'
import type { ByteRange } from '../../http/range.ts'
import type { Digest } from '../../oci/digest.ts'
import type { PrefixDigest, Ingest, LeaveOptions } from '../../store/ingest/ingest.ts'
import type { UpstreamError } from '../../upstream/face/failure.ts'
import type { Source } from '../../upstream/face/source.ts'
import { FileLost } from './write-body.ts'

const COMPARED_BYTES = 256 * 1024

/** A file that stays readable, though it cannot be written any more. */
export interface FileLeft {
  readonly have: Intervals
  read(into: Uint8Array, at: number): Promise<number>
  /** What has hashed it up to its first gap. */
  readonly prefix: PrefixDigest
  /** Who gave its bytes. */
  readonly sources: ReadonlySet<Source>
  /** An earlier download left some of it, and nobody knows who gave that. */
  readonly isResumed: boolean
}

export class Attempt {
  readonly digest: Digest
  /** Every source that gave bytes. */
  readonly sources = new Set<Source>()
  /** Which source gave what. */
  readonly spans: { readonly source: Source; readonly range: ByteRange }[] = []
  /** It began with what an earlier download left: nobody knows any more who gave that. */
  readonly isResumed: boolean
  /** What is here is of use to a later download: it is left for it. */
  leave = false
  isVerified = false
  /** Its only source was named when its bytes proved wrong. */
  isSourceNamed = false
  /** Why its bytes are not what the digest names, once that is known. */
  mismatch: UpstreamError | undefined
  /** Its file cannot be read any more. */
  isLost = false
  readonly #ingest: Ingest
  #holders = 1
  readonly #closed = Promise.withResolvers<void>()

  constructor(ingest: Ingest) {
    this.digest = ingest.digest
    this.#ingest = ingest
    this.isResumed = ingest.have().bytes > 0
  }

  /** What is written, live. */
  get have(): Intervals {
    return this.#ingest.have()
  }

  /** Where the bytes end that are here without a gap from 0. */
  get contiguousEnd(): number {
    return this.have.endFrom(0)
  }

  /** Where the last byte ends that is here, whatever is missing before it. */
  get extent(): number {
    return [...this.have].at(-1)?.end ?? 0
  }

  /** Whether all of a blob of this size is here. */
  isComplete(size: number): boolean {
    return this.have.has(0, size)
  }

  read(into: Uint8Array, at: number): Promise<number> {
    return this.#ingest.read(into, at)
  }

  write(at: number, bytes: readonly Uint8Array[]): Promise<void> {
    return this.#ingest.write(at, bytes)
  }

  /** Throws ContentError; `size` is what it should be, in bytes. */
  verify(size: number | undefined): Promise<void> {
    return this.#ingest.verify(size)
  }

  /** Ends writing for good; what is written stays readable. Throws FileLost. */
  async endWriting(): Promise<FileLeft> {
    const { have, sources, isResumed } = this
    try {
      const prefix = await this.#ingest.endWriting()
      return { have, prefix, sources, isResumed, read: (into, at) => this.read(into, at) }
    } catch (cause) {
      throw new FileLost('what was written cannot be read again', { cause })
    }
  }

  commit(): Promise<void> {
    return this.#ingest.commit()
  }

  checkpoint(): Promise<void> {
    return this.#ingest.checkpoint()
  }

  /** Leaves its file for another process, which may have it at once; it can be read on. */
  leaveFile(options: LeaveOptions): Promise<void> {
    return this.#ingest.leave(options)
  }

  /** Removes its file; it can be read on. */
  abort(): Promise<void> {
    return this.#ingest.abort()
  }

  retain(): void {
    this.#holders += 1
  }

  async release(): Promise<void> {
    this.#holders -= 1
    if (this.#holders === 0) await this.end()
  }

  /** Closes the file, whoever still holds it: at the end of a server another may open it at once. */
  async end(): Promise<void> {
    try {
      await (this.leave ? this.#ingest.suspend() : this.#ingest.close())
    } finally {
      this.#closed.resolve()
    }
  }

  /** Resolves when nothing of it is open any more; never rejects. */
  get closed(): Promise<void> {
    return this.#closed.promise
  }

  /** Whether another attempt has the same bytes in [start, end). */
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
