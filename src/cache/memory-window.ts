// A blob that passes through because it cannot be kept: what was written before stays readable from
// its file, of the rest as much is in memory as readers need next. It is hashed all the same, and what
// has to be fetched again is compared with what was hashed.
import { hash } from 'node:crypto'
import { Intervals } from '../http/intervals.ts'
import type { ByteRange } from '../http/range.ts'
import { createDigester, type Digest, type Digester } from '../oci/digest.ts'
import { algorithmOf } from '../oci/digest.ts'
import { ContentError } from '../store/content-error.ts'
import type { HandedOver, Ingest } from '../store/ingest.ts'
import type { MemoryShare } from './passing-memory.ts'
import { type Admission, BLOCK_BYTES, type Need, WindowZones } from './window-zones.ts'

const CHECK = 'sha256'
const CHECK_BYTES = 32
/** Bytes that were fetched again are not those that were hashed. */
export class OtherBytes extends Error {}

export interface WindowReader {
  readonly whole: boolean | undefined
  readonly wanted: ByteRange | undefined
  /** It waits for the first byte of that. */
  readonly waits: boolean
}

export interface MemoryWindowOptions {
  readonly digest: Digest
  /** What it may take; it is given back at the end. */
  readonly memory: MemoryShare
  /** What was written before, and what has hashed its prefix. */
  readonly file?: { readonly ingest: Ingest; readonly handedOver: HandedOver } | undefined
  /** More is hashed, or nothing can be any more. */
  readonly hashed: () => void
}

export interface Arrangement {
  readonly ranged: boolean
  readonly mostGrants: number
  readonly withheld: boolean
  readonly now: number
}

interface Block {
  readonly bytes: Buffer
  readonly filled: Intervals
  /** It may be read: it is at the front, or equal to what was hashed. */
  isPublic: boolean
}

interface Waiter {
  readonly at: number
  readonly apart: boolean
  readonly go: (mayWrite: boolean) => void
}

export class MemoryWindow {
  readonly digest: Digest
  readonly #options: MemoryWindowOptions
  readonly #file: Ingest | undefined
  readonly #zones = new WindowZones()
  /** By index; block 0 begins where the file's hash ended. */
  readonly #blocks = new Map<number, Block>()
  readonly #origin: number
  readonly #digester: Digester
  readonly #waiters = new Set<Waiter>()
  /** Of every block that was hashed, one after the other. */
  #checks = Buffer.alloc(CHECK_BYTES * 64)
  #hashedBlocks = 0
  #isHashing = false
  #broken: { readonly cause: unknown } | undefined
  #verified: boolean | undefined
  #have: Intervals
  #size: number | undefined
  #mostBytes = 0

  constructor(options: MemoryWindowOptions) {
    this.#options = options
    this.digest = options.digest
    this.#file = options.file?.ingest
    this.#origin = options.file?.handedOver.at ?? 0
    this.#digester =
      options.file?.handedOver.digester ?? createDigester(algorithmOf(options.digest))
    this.#have = new Intervals(this.#file?.have())
  }

  /** What can be read now; another object when something was dropped. */
  get have(): Intervals {
    return this.#have
  }

  /** The same, and what came and is still to be compared. */
  get held(): Intervals {
    const uncompared = [...this.#blocks.values()].filter(({ isPublic }) => !isPublic)
    if (uncompared.length === 0) return this.#have
    const held = new Intervals(this.#have)
    for (const { filled } of uncompared) for (const { start, end } of filled) held.add(start, end)
    return held
  }

  /** In memory now, in bytes. */
  get bytes(): number {
    return this.#blocks.size * BLOCK_BYTES
  }

  /** The most there ever was. */
  get mostBytes(): number {
    return this.#mostBytes
  }

  /** The first byte that is not hashed yet. */
  get hashed(): number {
    const end = this.#origin + this.#hashedBlocks * BLOCK_BYTES
    return Math.min(end, this.#size ?? Infinity)
  }

  /**
   * The first offset at or after `at` that who reads the whole may not be given yet: it is not here, or
   * it is not hashed and might be other bytes when it is fetched again.
   */
  provenFrom(at: number): number {
    const proven = Math.max(this.hashed, this.#file?.have().endFrom(at) ?? 0)
    return Math.max(at, Math.min(this.#have.endFrom(at), proven))
  }

  /** Why it cannot be hashed any more: the file cannot be read. */
  get broken(): { readonly cause: unknown } | undefined {
    return this.#broken
  }

  /** What is to be fetched for the readers that are together, in whole blocks. */
  get rest(): ByteRange | undefined {
    const rest = this.#zones.rest
    return rest && this.#inBlocks(rest.start, rest.end)
  }

  /** What readers that are elsewhere need, in whole blocks. */
  get apart(): ByteRange[] {
    return this.#zones.apart.map(({ start, end }) => this.#inBlocks(start, end))
  }

  /** No request for `rest` begins at or past this offset. */
  get top(): number {
    return this.#zones.top
  }

  /** The size of the blob is known now. */
  sized(size: number): void {
    this.#size = size
    void this.#hashOn()
  }

  /** Readers came, moved or left: what none of them needs is dropped, and who waits may go on. */
  arrange(readers: readonly WindowReader[], arrangement: Arrangement): void {
    const needs = readers.flatMap((reader) => this.#need(reader))
    // Nobody can say what is to be read before the size is known.
    if (readers.length === 0 && this.#size === undefined) needs.push(this.#front())
    const { bytes: shareBytes } = this.#options.memory
    this.#zones.arrange(needs, { ...arrangement, hashed: this.hashed, shareBytes })
    this.#drop()
    for (const waiter of this.#waiters) {
      const answer = this.#zones.admits(waiter.at, waiter.apart)
      if (answer !== 'wait') waiter.go(answer === 'yes')
    }
  }

  /** Whether what begins at `at` may be written now; `no`: nobody will read it. */
  admits(at: number, apart: boolean): Admission {
    return this.#zones.admits(at, apart)
  }

  /** The same, once there is room: false where nobody will read it, or the signal fires. */
  async room(at: number, apart: boolean, signal: AbortSignal): Promise<boolean> {
    const answer = this.#zones.admits(at, apart)
    if (signal.aborted || answer !== 'wait') return answer === 'yes' && !signal.aborted
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const waiter: Waiter = { at, apart, go: resolve }
    const aborted = () => resolve(false)
    this.#waiters.add(waiter)
    signal.addEventListener('abort', aborted, { once: true })
    try {
      return await promise
    } finally {
      this.#waiters.delete(waiter)
      signal.removeEventListener('abort', aborted)
    }
  }

  /** Keeps what readers need next and passes over the rest. Throws OtherBytes. */
  async write(at: number, bytes: Uint8Array | readonly Uint8Array[]): Promise<void> {
    const touched = new Set<number>()
    let position = at
    for (const chunk of bytes instanceof Uint8Array ? [bytes] : bytes) {
      for (let offset = 0; offset < chunk.length;) {
        const index = this.#indexOf(position)
        const length = Math.min(chunk.length - offset, this.#blockRange(index).end - position)
        if (this.#put(index, position, chunk.subarray(offset, offset + length))) touched.add(index)
        offset += length
        position += length
      }
    }
    void this.#hashOn()
    for (const index of touched) await this.#publish(index)
  }

  /** Of what is here, as far as `into` goes; fewer in front of what is missing. */
  async read(into: Uint8Array, at: number): Promise<number> {
    let count = 0
    while (count < into.length) {
      const position = at + count
      const rest = into.subarray(count)
      const inFile = (this.#file?.have().endFrom(position) ?? position) > position
      const read = inFile ? await this.#file!.read(rest, position) : this.#copy(rest, position)
      if (read === 0) break
      count += read
    }
    return count
  }

  /** Where the first byte at or after `at` is that a request has brought and nobody can read yet. */
  settled(at: number): number {
    const index = this.#indexOf(at)
    const block = this.#blocks.get(index)
    return block === undefined || block.isPublic ? at : this.#blockRange(index).start
  }

  /** Throws ContentError. All of it must have been hashed. */
  verify(size: number | undefined): void {
    if (size === undefined || this.hashed !== size) {
      throw new ContentError('wrong-size', size ?? 'a known size', this.hashed)
    }
    if (this.#verified === true) return
    const actual = this.#digester.digest()
    this.#verified = actual === this.digest
    if (!this.#verified) throw new ContentError('wrong-digest', this.digest, actual)
  }

  async close(): Promise<void> {
    this.#options.memory.leave()
    this.#blocks.clear()
    this.#have = new Intervals()
    for (const { go } of this.#waiters) go(false)
    await this.#file?.close()
  }

  #need(reader: WindowReader): Need[] {
    const { wanted, waits } = reader
    if (wanted === undefined) return []
    const whole = reader.whole === true
    // Who goes on with the whole from elsewhere needs what comes before to be hashed, too.
    const from = whole ? Math.min(wanted.start, this.hashed) : wanted.start
    const at = this.#file?.have().endFrom(from) ?? from
    const end = Math.min(wanted.end, this.#size ?? Infinity)
    if (at >= end) return []
    const { start } = this.#inBlocks(at, end)
    return [{ reader, at: start, end, position: wanted.start, waits, whole, here: at === from }]
  }

  #front(): Need {
    const at = this.#file?.have().endFrom(0) ?? 0
    return { reader: this, at, end: Infinity, position: at, waits: true, whole: true, here: true }
  }

  // What was hashed is asked for again in whole blocks, or it could not be compared.
  #inBlocks(start: number, end: number): ByteRange {
    const from = start < this.hashed ? this.#blockRange(this.#indexOf(start)).start : start
    const to = end === Infinity ? end : this.#blockRange(this.#indexOf(end - 1)).end
    return { start: start < this.#origin ? start : from, end: Math.min(to, this.#size ?? Infinity) }
  }

  #indexOf(at: number): number {
    return Math.floor((at - this.#origin) / BLOCK_BYTES)
  }

  #blockRange(index: number): ByteRange {
    const start = this.#origin + index * BLOCK_BYTES
    return { start, end: Math.min(start + BLOCK_BYTES, this.#size ?? Infinity) }
  }

  #put(index: number, at: number, bytes: Uint8Array): boolean {
    const { start } = this.#blockRange(index)
    if (index < 0 || !this.#keeps(index)) return false
    const block = this.#blocks.get(index) ?? this.#newBlock(index)
    for (const gap of this.#have.missing(at, at + bytes.length)) {
      for (const { start: from, end: to } of block.filled.missing(gap.start, gap.end)) {
        block.bytes.set(bytes.subarray(from - at, to - at), from - start)
        block.filled.add(from, to)
        if (block.isPublic) this.#have.add(from, to)
      }
    }
    return true
  }

  #newBlock(index: number): Block {
    const isPublic = index >= this.#hashedBlocks
    const block = { bytes: Buffer.allocUnsafe(BLOCK_BYTES), filled: new Intervals(), isPublic }
    this.#blocks.set(index, block)
    this.#mostBytes = Math.max(this.#mostBytes, this.bytes)
    return block
  }

  #keeps(index: number): boolean {
    const { start, end } = this.#blockRange(index)
    // What is small is never dropped: it is within the bound as a whole.
    if (this.#size !== undefined && this.#size - this.#origin <= this.#zones.roomBytes) return true
    return this.#zones.keeps(start, end)
  }

  #drop(): void {
    let isLess = false
    for (const [index, block] of this.#blocks) {
      if (this.#keeps(index)) continue
      this.#blocks.delete(index)
      isLess ||= block.isPublic
    }
    if (!isLess) return
    this.#have = new Intervals(this.#file?.have())
    for (const { isPublic, filled } of this.#blocks.values()) {
      if (isPublic) for (const { start, end } of filled) this.#have.add(start, end)
    }
  }

  #copy(into: Uint8Array, at: number): number {
    const index = this.#indexOf(at)
    const block = this.#blocks.get(index)
    if (block === undefined || !block.isPublic) return 0
    const start = at - this.#blockRange(index).start
    const length = Math.min(block.filled.endFrom(at) - at, into.length)
    block.bytes.copy(into, 0, start, start + length)
    return length
  }

  /** A block that was hashed before can be read when all of it is here and the same. */
  async #publish(index: number): Promise<void> {
    const block = this.#blocks.get(index)
    if (block === undefined || block.isPublic) return
    const bytes = await this.#whole(index)
    if (bytes === undefined || block.isPublic) return
    const isSame = hash(CHECK, bytes, 'buffer').equals(this.#check(index))
    if (!isSame) {
      this.#blocks.delete(index)
      throw new OtherBytes('sent other bytes than the first time')
    }
    block.isPublic = true
    if (this.#blocks.get(index) !== block) return
    for (const { start, end } of block.filled) this.#have.add(start, end)
  }

  /** The bytes of a block, what the file has of it included; undefined while something is missing. */
  async #whole(index: number): Promise<Uint8Array | undefined> {
    const { start, end } = this.#blockRange(index)
    const block = this.#blocks.get(index)
    const filled = block?.filled ?? new Intervals()
    if (filled.has(start, end)) return block!.bytes.subarray(0, end - start)
    const gaps = filled.missing(start, end)
    const inFile = this.#file?.have()
    if (!gaps.every((gap) => inFile?.has(gap.start, gap.end))) return undefined
    const bytes = Buffer.alloc(end - start)
    block?.bytes.copy(bytes)
    for (const gap of gaps) {
      const into = bytes.subarray(gap.start - start, gap.end - start)
      const read = await this.#file!.read(into, gap.start)
      if (read < into.length) throw new Error(`the file ends before byte ${gap.end}`)
    }
    return bytes
  }

  // In order from the front; what is in memory at once, without a turn of the event loop.
  async #hashOn(): Promise<void> {
    if (this.#isHashing || this.#broken !== undefined) return
    this.#isHashing = true
    const before = this.hashed
    try {
      while (this.#canHash()) {
        const index = this.#hashedBlocks
        const block = this.#blocks.get(index)
        const { start, end } = this.#blockRange(index)
        const isHere = block?.filled.has(start, end) === true
        const bytes = isHere ? block.bytes.subarray(0, end - start) : await this.#whole(index)
        if (bytes === undefined) break
        this.#digester.update(bytes)
        this.#note(index, hash(CHECK, bytes, 'buffer'))
      }
    } catch (cause) {
      this.#broken = { cause }
    } finally {
      this.#isHashing = false
    }
    if (this.hashed > before || this.#broken !== undefined) this.#options.hashed()
  }

  #canHash(): boolean {
    const { start, end } = this.#blockRange(this.#hashedBlocks)
    return start < end && end !== Infinity && this.#have.has(start, end)
  }

  #check(index: number): Buffer {
    return this.#checks.subarray(index * CHECK_BYTES, (index + 1) * CHECK_BYTES)
  }

  #note(index: number, check: Buffer): void {
    if ((index + 1) * CHECK_BYTES > this.#checks.length) {
      this.#checks = Buffer.concat([this.#checks, Buffer.alloc(this.#checks.length)])
    }
    check.copy(this.#checks, index * CHECK_BYTES)
    this.#hashedBlocks = index + 1
  }
}
