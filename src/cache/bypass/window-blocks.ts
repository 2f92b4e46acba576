// The bytes of a blob that passes through: what its file has of it, and blocks in memory behind where
// the file's hash ended. What is in a block that was hashed before is not given before it was compared.
import { Intervals } from '../../http/intervals.ts'
import type { ByteRange } from '../../http/range.ts'
import type { Ingest } from '../../store/ingest/ingest.ts'

/** What is compared at once, when it is fetched again. */
export const BLOCK_BYTES = 256 * 1024

interface Block {
  readonly bytes: Buffer
  readonly filled: Intervals
}

export class WindowBlocks {
  /** Of the blob, once it is known. */
  size: number | undefined
  readonly #file: Ingest | undefined
  /** Where block 0 begins. */
  readonly #origin: number
  readonly #blocks = new Map<number, Block>()
  /** Those of them that may not be read yet. */
  readonly #uncompared = new Map<number, Block>()
  #have: Intervals
  #mostBytes = 0

  constructor(origin: number, file: Ingest | undefined) {
    this.#origin = origin
    this.#file = file
    this.#have = new Intervals(file?.have())
  }

  /** What can be read now; another object when something was dropped. */
  get have(): Intervals {
    return this.#have
  }

  /** The same, and what came and is still to be compared. */
  get held(): Intervals {
    if (this.#uncompared.size === 0) return this.#have
    const held = new Intervals(this.#have)
    for (const { filled } of this.#uncompared.values()) addAll(held, filled)
    return held
  }

  /** In memory now. */
  get bytes(): number {
    return this.#blocks.size * BLOCK_BYTES
  }

  /** The most there ever was. */
  get mostBytes(): number {
    return this.#mostBytes
  }

  /** Which block this byte is in; less than 0: it is the file's. */
  indexOf(at: number): number {
    return Math.floor((at - this.#origin) / BLOCK_BYTES)
  }

  rangeOf(index: number): ByteRange {
    const start = this.#origin + index * BLOCK_BYTES
    return { start, end: Math.min(start + BLOCK_BYTES, this.size ?? Infinity) }
  }

  /** The first offset at or after `at` that the file has not. */
  inFileTo(at: number): number {
    return this.#file?.have().endFrom(at) ?? at
  }

  isUncompared(index: number): boolean {
    return this.#uncompared.has(index)
  }

  /** What is not here yet of these bytes, which are within one block. */
  put(index: number, at: number, bytes: Uint8Array, { isCompared }: { isCompared: boolean }): void {
    const { start } = this.rangeOf(index)
    const block = this.#blocks.get(index) ?? this.#newBlock(index, isCompared)
    const isReadable = !this.#uncompared.has(index)
    for (const gap of this.#have.missing(at, at + bytes.length)) {
      for (const { start: from, end: to } of block.filled.missing(gap.start, gap.end)) {
        block.bytes.set(bytes.subarray(from - at, to - at), from - start)
        block.filled.add(from, to)
        if (isReadable) this.#have.add(from, to)
      }
    }
  }

  /**
   * What was hashed before may be read when all of it is here, and `compare` does not throw; if it does,
   * nothing of it is kept, and that is thrown.
   */
  async publish(index: number, compare: (bytes: Uint8Array) => void): Promise<void> {
    const block = this.#uncompared.get(index)
    const bytes = block && (await this.whole(index))
    if (!bytes) return
    try {
      compare(bytes)
    } catch (error) {
      this.#discard(index)
      throw error
    }
    if (this.#uncompared.get(index) !== block) return // dropped meanwhile; this is another
    this.#uncompared.delete(index)
    addAll(this.#have, block.filled)
  }

  /** Only these are kept. */
  keep(keeps: (index: number) => boolean): void {
    let isLess = false
    for (const index of this.#blocks.keys()) {
      if (keeps(index)) continue
      isLess ||= !this.#uncompared.has(index)
      this.#discard(index)
    }
    if (isLess) this.#have = this.#readable()
  }

  clear(): void {
    this.#blocks.clear()
    this.#uncompared.clear()
    this.#have = new Intervals()
  }

  /** Of what is here, as far as `into` goes; fewer in front of what is missing. */
  async read(into: Uint8Array, at: number): Promise<number> {
    let count = 0
    while (count < into.length) {
      const position = at + count
      const rest = into.subarray(count)
      const isInFile = this.inFileTo(position) > position
      const read = isInFile ? await this.#file!.read(rest, position) : this.#copy(rest, position)
      if (read === 0) break
      count += read
    }
    return count
  }

  /** All bytes of a block, where they are in memory; they are not copied. */
  inMemory(index: number): Uint8Array | undefined {
    const { start, end } = this.rangeOf(index)
    const block = this.#blocks.get(index)
    return block?.filled.has(start, end) ? block.bytes.subarray(0, end - start) : undefined
  }

  /** The same with what the file has of it; undefined while something is missing. Throws what reading throws. */
  async whole(index: number): Promise<Uint8Array | undefined> {
    const inMemory = this.inMemory(index)
    if (inMemory) return inMemory
    const { start, end } = this.rangeOf(index)
    const block = this.#blocks.get(index)
    const gaps = block?.filled.missing(start, end) ?? [{ start, end }]
    if (!gaps.every((gap) => this.#file?.have().has(gap.start, gap.end))) return undefined
    const bytes = Buffer.alloc(end - start)
    block?.bytes.copy(bytes)
    for (const gap of gaps) {
      const into = bytes.subarray(gap.start - start, gap.end - start)
      const read = await this.#file!.read(into, gap.start)
      if (read < into.length) throw new Error(`the file ends before byte ${gap.end}`)
    }
    return bytes
  }

  #newBlock(index: number, isCompared: boolean): Block {
    const block = { bytes: Buffer.allocUnsafe(BLOCK_BYTES), filled: new Intervals() }
    this.#blocks.set(index, block)
    if (!isCompared) this.#uncompared.set(index, block)
    this.#mostBytes = Math.max(this.#mostBytes, this.bytes)
    return block
  }

  #discard(index: number): void {
    this.#blocks.delete(index)
    this.#uncompared.delete(index)
  }

  #readable(): Intervals {
    const have = new Intervals(this.#file?.have())
    for (const [index, { filled }] of this.#blocks) {
      if (!this.#uncompared.has(index)) addAll(have, filled)
    }
    return have
  }

  #copy(into: Uint8Array, at: number): number {
    const index = this.indexOf(at)
    const block = this.#blocks.get(index)
    if (block === undefined || this.#uncompared.has(index)) return 0
    const start = at - this.rangeOf(index).start
    const length = Math.min(block.filled.endFrom(at) - at, into.length)
    block.bytes.copy(into, 0, start, start + length)
    return length
  }
}

function addAll(to: Intervals, from: Intervals): void {
  for (const { start, end } of from) to.add(start, end)
}
