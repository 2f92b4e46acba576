// The last bytes of a read that goes through a blob in order, in blocks, for the readers that follow it.
// What hashes the blob is remembered at every block, so that a reader that is left behind can go on
// hashing from exactly where it is. It fetches nothing and decides nothing.
import type { Digester } from '../../oci/digest.ts'

export const BLOCK_BYTES = 256 * 1024

interface Block {
  readonly bytes: Buffer
  /** What has hashed every byte in front of this block. */
  readonly before: Digester | undefined
}

export class TailWindow {
  readonly #start: number
  /** What has hashed every byte up to the front; undefined where the bytes are not hashed. */
  readonly #digester: Digester | undefined
  readonly #blocks: Block[] = []
  /** How many blocks were dropped. */
  #dropped = 0
  /** How many readers are in each block, by its number; the blocks in front of the readers may not exist yet. */
  readonly #readers = new Map<number, number>()
  #front: number

  /** Begins, empty, at byte `start` of the blob; `digester` has seen every byte before that. */
  constructor(start: number, digester?: Digester) {
    this.#start = start
    this.#front = start
    this.#digester = digester
  }

  /** The first byte that can be read. */
  get tail(): number {
    return Math.min(this.#start + this.#dropped * BLOCK_BYTES, this.#front)
  }

  /** The first byte that has not arrived. */
  get front(): number {
    return this.#front
  }

  get blocks(): number {
    return this.#blocks.length
  }

  /** The digest of every byte up to the front, where they are hashed. */
  get digester(): Digester | undefined {
    return this.#digester
  }

  /** Whether a reader is in the oldest block, or has not reached it yet. */
  get isOldestNeeded(): boolean {
    return this.#blocks.length > 0 && (this.#readers.get(this.#dropped) ?? 0) > 0
  }

  /** Appends as much of `bytes` as the newest block has room for. Returns how much that was. */
  append(bytes: Uint8Array): number {
    const end = this.#start + (this.#dropped + this.#blocks.length) * BLOCK_BYTES
    const length = Math.min(bytes.length, end - this.#front)
    if (length <= 0) return 0
    const fresh = bytes.subarray(0, length)
    this.#blocks.at(-1)!.bytes.set(fresh, BLOCK_BYTES - (end - this.#front))
    this.#digester?.update(fresh)
    this.#front += length
    return length
  }

  /** Adds an empty block of BLOCK_BYTES; the last one is full. */
  addBlock(bytes: Buffer): void {
    this.#blocks.push({ bytes, before: this.#digester?.copy() })
  }

  /** Drops the oldest block and returns its memory. */
  dropOldest(): Buffer {
    const block = this.#blocks.shift()
    if (!block) throw new RangeError('the window has no block')
    this.#readers.delete(this.#dropped)
    this.#dropped += 1
    return block.bytes
  }

  /** Drops every block. */
  clear(): void {
    while (this.#blocks.length > 0) this.dropOldest()
  }

  /** Copies what is here from byte `at` on. Returns how many bytes that were. */
  read(into: Uint8Array, at: number): number {
    let count = 0
    for (let position = at; count < into.length && position < this.#front;) {
      const block = this.#blocks[this.#numberOf(position) - this.#dropped]
      if (block === undefined || position < this.tail) break
      const offset = (position - this.#start) % BLOCK_BYTES
      const length = Math.min(BLOCK_BYTES - offset, this.#front - position, into.length - count)
      into.set(block.bytes.subarray(offset, offset + length), count)
      count += length
      position += length
    }
    return count
  }

  /** Returns a digester that has seen every byte before `at`, which is between the tail and the front. */
  digesterAt(at: number): Digester {
    if (this.#digester === undefined) throw new Error('the bytes of this window are not hashed')
    const block = this.#blocks[this.#numberOf(at) - this.#dropped]
    if (at === this.#front || block?.before === undefined) return this.#digester.copy()
    const digester = block.before.copy()
    digester.update(block.bytes.subarray(0, (at - this.#start) % BLOCK_BYTES))
    return digester
  }

  /** A reader stands at `at`, and keeps that block from being dropped unnoticed. */
  enter(at: number): void {
    this.#count(this.#numberOf(at), 1)
  }

  leave(at: number): void {
    this.#count(this.#numberOf(at), -1)
  }

  /** A reader went on. Returns whether the oldest block is not needed any more because of that. */
  move(from: number, to: number): boolean {
    const [before, after] = [this.#numberOf(from), this.#numberOf(to)]
    if (before === after) return false
    this.#count(before, -1)
    this.#count(after, 1)
    return before === this.#dropped && !this.isOldestNeeded
  }

  // One that is in front of the window counts for its first block: it needs that next.
  #numberOf(at: number): number {
    return Math.max(0, Math.floor((at - this.#start) / BLOCK_BYTES))
  }

  #count(number: number, by: number): void {
    const count = (this.#readers.get(number) ?? 0) + by
    if (count > 0) this.#readers.set(number, count)
    else this.#readers.delete(number)
  }
}
