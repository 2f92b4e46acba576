// A blob that passes through because it cannot be kept: what was written before stays readable from
// its file, of the rest as much is in memory as readers need next. It is hashed all the same, and what
// has to be fetched again is compared with what was hashed.
import type { Intervals } from '../../http/intervals.ts'
import type { ByteRange } from '../../http/range.ts'
import { algorithmOf, createDigester, type Digest } from '../../oci/digest.ts'
import { ContentError } from '../../store/ingest/content-error.ts'
import type { HandedOver, Ingest } from '../../store/ingest/ingest.ts'
import { BlockHashes } from './block-hashes.ts'
import type { MemoryHolder, PassingMemory } from './memory-budget.ts'
import { WindowBlocks } from './window-blocks.ts'
import { WindowRoom } from './window-room.ts'
import { type Admission, type Need, WindowZones } from './window-zones.ts'

export interface WindowReader {
  readonly whole: boolean | undefined
  readonly wanted: ByteRange | undefined
  /** It waits for the first byte of that. */
  readonly waits: boolean
}

export interface MemoryWindowOptions {
  readonly digest: Digest
  readonly memory: PassingMemory
  /** What was written before, and what has hashed its prefix. */
  readonly file?: { readonly ingest: Ingest; readonly handedOver: HandedOver } | undefined
  /** More is hashed, or nothing can be any more, or there is memory to go on with. */
  readonly changed: () => void
}

export interface Arrangement {
  readonly ranged: boolean
  readonly mostGrants: number
  readonly withheld: boolean
  readonly now: number
}

export class MemoryWindow implements MemoryHolder {
  readonly digest: Digest
  readonly #options: MemoryWindowOptions
  readonly #zones = new WindowZones()
  /** The first block begins where the file's hash ended. */
  readonly #origin: number
  readonly #blocks: WindowBlocks
  readonly #hashes: BlockHashes
  readonly #room = new WindowRoom((at, apart) => this.admits(at, apart))
  #readBytes = 0
  #isHashing = false
  #broken: { readonly cause: unknown } | undefined

  constructor(options: MemoryWindowOptions) {
    const { digest, file } = options
    this.#options = options
    this.digest = digest
    this.#origin = file?.handedOver.at ?? 0
    this.#blocks = new WindowBlocks(this.#origin, file?.ingest)
    this.#hashes = new BlockHashes(file?.handedOver.digester ?? createDigester(algorithmOf(digest)))
  }

  /** What can be read now; another object when something was dropped. */
  get have(): Intervals {
    return this.#blocks.have
  }

  /** The same, and what came and is still to be compared. */
  get held(): Intervals {
    return this.#blocks.held
  }

  /** In memory now, in bytes. */
  get bytes(): number {
    return this.#blocks.bytes
  }

  /** The most there ever was. */
  get mostBytes(): number {
    return this.#blocks.mostBytes
  }

  /** The first byte that is not hashed yet. */
  get hashed(): number {
    const { start } = this.#blocks.rangeOf(this.#hashes.count)
    return Math.min(start, this.#blocks.size ?? Infinity)
  }

  /** Grows when something is hashed, or read: both is what it is for, being in memory is not. */
  get gained(): number {
    return this.hashed + this.#readBytes
  }

  /**
   * The first offset at or after `at` that who reads the whole may not be given yet: it is not here, or
   * it is not hashed and might be other bytes when it is fetched again.
   */
  provenFrom(at: number): number {
    const proven = Math.max(this.hashed, this.#options.file ? this.#blocks.inFileTo(at) : 0)
    return Math.max(at, Math.min(this.have.endFrom(at), proven))
  }

  /** Why it cannot be hashed any more: the file cannot be read. */
  get broken(): { readonly cause: unknown } | undefined {
    return this.#broken
  }

  /** What is to be fetched for the readers that are together, in whole blocks. */
  get rest(): ByteRange | undefined {
    const { rest } = this.#zones
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
    this.#blocks.size = size
    void this.#hashOn()
  }

  /** Readers came, moved or left: what none of them needs is dropped, and who waits may go on. */
  arrange(readers: readonly WindowReader[], arrangement: Arrangement): void {
    const needs = readers.flatMap((reader) => this.#need(reader))
    // Nobody can say what is to be read before the size is known.
    if (readers.length === 0 && this.#blocks.size === undefined) needs.push(this.#front())
    const { memory } = this.#options
    const { ranged: isRanged, now } = arrangement
    this.#zones.arrange(needs, {
      ...arrangement,
      hashed: this.hashed,
      memory: (isIdle) => memory.use(this, { isIdle, isRanged, now }),
    })
    this.#blocks.keep((index) => this.#keeps(index))
    memory.keep(this, this.#zones.mostBytes)
    this.#room.look()
  }

  granted(): void {
    this.#options.changed()
  }

  revoked(): void {
    this.#zones.close()
    this.#blocks.keep(() => false)
    this.#room.look()
  }

  /** Nothing fills it from now on: another blob may have its memory. */
  retire(): void {
    this.#options.memory.retire(this)
  }

  /** Whether what begins at `at` may be written now; `no`: nobody will read it. */
  admits(at: number, apart: boolean): Admission {
    return this.#zones.admits(at, apart)
  }

  /** The same, once there is room: false where nobody will read it, or the signal fires. */
  room(at: number, apart: boolean, signal: AbortSignal): Promise<boolean> {
    return this.#room.wait(at, apart, signal)
  }

  /** Keeps what readers need next and passes over the rest. Throws OtherBytes. */
  async write(at: number, bytes: Uint8Array | readonly Uint8Array[]): Promise<void> {
    const touched = new Set<number>()
    let position = at
    for (const chunk of bytes instanceof Uint8Array ? [bytes] : bytes) {
      for (let offset = 0; offset < chunk.length;) {
        const index = this.#blocks.indexOf(position)
        const length = Math.min(chunk.length - offset, this.#blocks.rangeOf(index).end - position)
        if (this.#put(index, position, chunk.subarray(offset, offset + length))) touched.add(index)
        offset += length
        position += length
      }
    }
    void this.#hashOn()
    for (const index of touched) {
      await this.#blocks.publish(index, (whole) => this.#hashes.compare(index, whole))
    }
  }

  /** Of what is here, as far as `into` goes; fewer in front of what is missing. */
  async read(into: Uint8Array, at: number): Promise<number> {
    const count = await this.#blocks.read(into, at)
    this.#readBytes += count
    return count
  }

  /** Where the first byte at or after `at` is that a request has brought and nobody can read yet. */
  settled(at: number): number {
    const index = this.#blocks.indexOf(at)
    return this.#blocks.isUncompared(index) ? this.#blocks.rangeOf(index).start : at
  }

  /** Throws ContentError. All of it must have been hashed. */
  verify(size: number | undefined): void {
    if (size === undefined || this.hashed !== size) {
      throw new ContentError('wrong-size', size ?? 'a known size', this.hashed)
    }
    this.#hashes.verify(this.digest)
  }

  async close(): Promise<void> {
    this.#zones.close()
    this.#blocks.clear()
    this.#options.memory.leave(this)
    this.#room.end()
    await this.#options.file?.ingest.close()
  }

  #need(reader: WindowReader): Need[] {
    const { wanted, waits } = reader
    if (wanted === undefined) return []
    const whole = reader.whole === true
    // Who goes on with the whole from elsewhere needs what comes before to be hashed, too.
    const from = whole ? Math.min(wanted.start, this.hashed) : wanted.start
    const at = this.#blocks.inFileTo(from)
    const end = Math.min(wanted.end, this.#blocks.size ?? Infinity)
    if (at >= end) return []
    const { start } = this.#inBlocks(at, end)
    return [{ reader, at: start, end, position: wanted.start, waits, whole, here: at === from }]
  }

  #front(): Need {
    const at = this.#blocks.inFileTo(0)
    return { reader: this, at, end: Infinity, position: at, waits: true, whole: true, here: true }
  }

  // What was hashed is asked for again in whole blocks, or it could not be compared.
  #inBlocks(start: number, end: number): ByteRange {
    const blocks = this.#blocks
    const isInFile = start < this.#origin
    const from =
      start < this.hashed && !isInFile ? blocks.rangeOf(blocks.indexOf(start)).start : start
    const to = end === Infinity ? end : blocks.rangeOf(blocks.indexOf(end - 1)).end
    return { start: from, end: Math.min(to, blocks.size ?? Infinity) }
  }

  #put(index: number, at: number, bytes: Uint8Array): boolean {
    if (index < 0 || !this.#keeps(index)) return false
    this.#blocks.put(index, at, bytes, { isCompared: index >= this.#hashes.count })
    return true
  }

  #keeps(index: number): boolean {
    const { size } = this.#blocks
    // What is small is never dropped: it is within the bound as a whole.
    if (size !== undefined && size - this.#origin <= this.#zones.roomBytes) return true
    const { start, end } = this.#blocks.rangeOf(index)
    return this.#zones.keeps(start, end)
  }

  // In order from the front; what is in memory at once, without a turn of the event loop.
  async #hashOn(): Promise<void> {
    if (this.#isHashing || this.#broken !== undefined) return
    this.#isHashing = true
    const before = this.hashed
    try {
      while (this.#canHash()) {
        const index = this.#hashes.count
        const bytes = this.#blocks.inMemory(index) ?? (await this.#blocks.whole(index))
        if (bytes === undefined) break
        this.#hashes.add(bytes)
      }
    } catch (cause) {
      this.#broken = { cause }
    } finally {
      this.#isHashing = false
    }
    if (this.hashed > before || this.#broken !== undefined) this.#options.changed()
  }

  #canHash(): boolean {
    const { start, end } = this.#blocks.rangeOf(this.#hashes.count)
    return start < end && end !== Infinity && this.have.has(start, end)
  }
}
