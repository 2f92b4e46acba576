// One try at filling a blob: the local file, or what passes through memory where that cannot be
// written, and whether the bytes can be trusted. Readers of it and the download that fills it hold it
// together; the last one out closes the file.
import type { Intervals } from '../../http/intervals.ts'
import type { ByteRange } from '../../http/range.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Ingest, LeaveOptions } from '../../store/ingest/ingest.ts'
import type { UpstreamError } from '../../upstream/face/failure.ts'
import type { Source } from '../../upstream/face/source.ts'
import { MemoryWindow } from '../bypass/memory-window.ts'
import type { PassingMemory } from '../bypass/memory-budget.ts'
import { FileLost } from './write-body.ts'

const COMPARED_BYTES = 256 * 1024

export interface AttemptOptions {
  readonly digest: Digest
  /** Absent where no file could be made: it passes through from the start. */
  readonly ingest: Ingest | undefined
  /** What it passes through, once it cannot be kept. */
  readonly memory: PassingMemory
  /** The file cannot be written: from here on nothing is kept. Called once. */
  readonly passes: (cause: unknown) => void
  /** More of what passes through is hashed, or cannot be any more, or there is memory to go on with. */
  readonly changed: () => void
}

export class Attempt {
  /** Every source that gave bytes. */
  readonly sources = new Set<Source>()
  /** It began with what an earlier download left: nobody knows any more who gave that. */
  readonly resumed: boolean
  /** What is here is of use to a later download: it is left for it. */
  leave = false
  verified = false
  /** Why its bytes are not what the digest names, once that is known. */
  mismatch: UpstreamError | undefined
  /** Its file cannot be read any more. */
  isLost = false
  readonly #options: AttemptOptions
  readonly #ingest: Ingest | undefined
  #window: MemoryWindow | undefined
  #passing: Promise<void> | undefined
  #holders = 1
  readonly #closed = Promise.withResolvers<void>()

  constructor(options: AttemptOptions) {
    const { digest, ingest, changed, memory } = options
    this.#options = options
    this.#ingest = ingest
    this.resumed = ingest !== undefined && ingest.have().bytes > 0
    if (ingest === undefined) this.#window = new MemoryWindow({ digest, changed, memory })
  }

  /** Which source gave what. */
  readonly spans: { readonly source: Source; readonly range: ByteRange }[] = []

  get digest(): Digest {
    return this.#options.digest
  }

  /** What passes through memory, where nothing can be kept. */
  get window(): MemoryWindow | undefined {
    return this.#window
  }

  /** The bytes that can be read; ask again each time, as another object may take its place. */
  get have(): Intervals {
    return this.#window?.have ?? this.#ingest!.have()
  }

  /** What need not be asked for: it can be read, or will be when it was compared. */
  get held(): Intervals {
    return this.#window?.held ?? this.#ingest!.have()
  }

  /** Another number whenever anything was gained: bytes in the file, or what passes through was hashed or read. */
  get gained(): number {
    return this.#window?.gained ?? this.have.bytes
  }

  /** The first offset at or after `at` that has not arrived. */
  readableFrom(at: number): number {
    return this.have.endFrom(at)
  }

  /** The same for who reads all of it, and whose bytes must be those that are verified. */
  provenFrom(at: number): number {
    return this.#window?.provenFrom(at) ?? this.have.endFrom(at)
  }

  /** Where the first byte at or after `at` is that has been written and cannot be read yet. */
  settled(at: number): number {
    return this.#window?.settled(at) ?? at
  }

  /** Where the bytes end that are here, or were and are hashed, without a gap from 0. */
  get frontier(): number {
    return this.readableFrom(this.#window?.hashed ?? 0)
  }

  /** Whether all of a blob of this size is here, or was and is hashed. */
  holds(size: number): boolean {
    return this.#window ? this.#window.hashed >= size : this.have.has(0, size)
  }

  read(into: Uint8Array, at: number): Promise<number> {
    return this.#window?.read(into, at) ?? this.#ingest!.read(into, at)
  }

  /** Where that fails, what is written passes through memory from then on. */
  async write(at: number, bytes: readonly Uint8Array[]): Promise<void> {
    try {
      if (!this.#window) return await this.#ingest!.write(at, bytes)
    } catch (cause) {
      await this.pass(cause)
    }
    await this.#window!.write(at, bytes)
  }

  /** Gives up keeping it, because of this. Throws FileLost. */
  pass(cause: unknown): Promise<void> {
    this.#passing ??= this.#pass(cause)
    return this.#passing
  }

  async #pass(cause: unknown): Promise<void> {
    const ingest = this.#ingest
    if (!ingest || this.#window) return
    const { digest, changed, memory, passes } = this.#options
    const handedOver = await ingest.handOver().catch(() => {
      throw new FileLost('what was written cannot be read again either', { cause })
    })
    const file = { ingest, handedOver }
    this.#window = new MemoryWindow({ digest, changed, memory, file })
    passes(cause)
  }

  /** Throws ContentError; `size`: what it should be, in bytes. */
  async verify(size: number | undefined): Promise<void> {
    if (this.#window) this.#window.verify(size)
    else await this.#ingest!.verify(size)
  }

  async commit(): Promise<void> {
    if (this.#window) throw new Error('what passed through cannot be kept')
    await this.#ingest!.commit()
  }

  async checkpoint(): Promise<void> {
    if (!this.#window) await this.#ingest!.checkpoint()
  }

  /** Its file is left for another process, which may have it at once; it can be read on. */
  async leaveFile(options: LeaveOptions): Promise<void> {
    await this.#ingest?.leave(options)
  }

  /** Its file is removed; it can be read on. */
  async abort(): Promise<void> {
    await this.#ingest?.abort()
  }

  /** Nothing fills it any more. Its readers may lose what is only in memory, where others need that. */
  retire(): void {
    this.#window?.retire()
  }

  retain(): void {
    this.#holders += 1
  }

  async release(): Promise<void> {
    this.#holders -= 1
    if (this.#holders === 0) await this.end()
  }

  /** Closes the file whoever still holds it: at the end of a server another may open it at once. */
  async end(): Promise<void> {
    try {
      await this.#passing?.catch(() => {}) // or what it takes would not be given back
      if (this.#window) await this.#window.close()
      else await (this.leave ? this.#ingest!.suspend() : this.#ingest!.close())
    } finally {
      this.#closed.resolve()
    }
  }

  /** Resolves when nothing of it is open any more; never rejects. */
  get closed(): Promise<void> {
    return this.#closed.promise
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
