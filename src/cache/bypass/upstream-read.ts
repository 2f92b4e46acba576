// One read of a blob in order, from the file and from upstream, into a tail window that readers follow.
// It stays a little ahead of the first of them, and waits a little for the last.
import type { ByteRange } from '../../http/range.ts'
import type { Digester } from '../../oci/digest.ts'
import type { Source } from '../../upstream/face/source.ts'
import type { MemoryBudget, MemoryHolder } from './memory-budget.ts'
import { Patience } from './patience.ts'
import { BLOCK_BYTES, TailWindow } from './tail-window.ts'

/**
 * What no read can do without: a body of up to 1 MiB is held until it is verified, and the block behind
 * it tells that there is more.
 */
export const MIN_BLOCKS = 5
const MIN_BYTES = MIN_BLOCKS * BLOCK_BYTES
/** How far it goes ahead of its first reader while nobody waits, in bytes. */
const LEAD_BYTES = 3 * BLOCK_BYTES
/** Readers that take nothing for this long have stopped, in milliseconds. */
const STOPPED_MS = 1000

/** A reader, as the read that it follows knows it. */
export interface Follower {
  /** The next byte that it will read. */
  readonly position: number
  /** Bytes have arrived. */
  wake(): void
  /** The read goes on without it, or ends; the window is still as it was. */
  leftBehind(): void
}

export interface UpstreamReadOptions extends ByteRange {
  /** What has hashed every byte before `start`; undefined where the bytes are not hashed. */
  readonly digester?: Digester | undefined
  /** It begins where the file's hash ends: a reader that was given nothing else may follow it. */
  readonly isFromBase: boolean
  /** It serves one reader that is not with the others. */
  readonly isDirect: boolean
  /** What it hashes includes bytes of the file. */
  readonly includesFile: boolean
  /** The most blocks that it keeps for readers behind the first. */
  readonly maxBlocks: number
  readonly memory: MemoryBudget
  /** How long it waits for a reader that has stopped, in milliseconds; asked each time. */
  readonly patienceMs: () => number
  /** The bytes in order. */
  readonly bytes: (read: UpstreamRead, signal: AbortSignal) => AsyncIterable<Uint8Array>
  /** Its memory is needed, and all its readers have stopped. */
  readonly stopped: (read: UpstreamRead) => void
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

export class UpstreamRead implements MemoryHolder {
  readonly range: ByteRange
  readonly isFromBase: boolean
  readonly isDirect: boolean
  readonly includesFile: boolean
  readonly window: TailWindow
  /** Every source that gave bytes. */
  readonly sources = new Set<Source>()
  /** It goes on without readers: somebody waits for the verdict, or for the size. */
  runsAlone = false
  isComplete = false
  isVerified = false
  readonly #options: UpstreamReadOptions
  readonly #followers = new Set<Follower>()
  readonly #waiting = new Set<Follower>()
  readonly #abort = new AbortController()
  readonly #patience: Patience
  /** The next byte of the reader that is furthest ahead. */
  #lead: number
  #heldBytes = 0
  #activeAt: number
  #change: PromiseWithResolvers<void> | undefined

  constructor(options: UpstreamReadOptions) {
    const { start, end, digester, now } = options
    this.#options = options
    this.range = { start, end }
    this.isFromBase = options.isFromBase
    this.isDirect = options.isDirect
    this.includesFile = options.includesFile
    this.window = new TailWindow(start, digester)
    this.#lead = start
    this.#activeAt = now()
    this.#patience = new Patience(now())
  }

  get isClosed(): boolean {
    return this.#abort.signal.aborted
  }

  get isFollowed(): boolean {
    return this.#followers.size > 0
  }

  /** The memory that it has taken, in bytes. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Whether all its readers have stopped: they have bytes to read and take none. */
  get isStopped(): boolean {
    if (this.runsAlone || this.#waiting.size > 0) return false
    return this.#options.now() - this.#activeAt >= STOPPED_MS
  }

  /** Resolves when every byte has come, or it was closed. Throws what `bytes` throws. */
  async run(): Promise<void> {
    const { bytes, memory } = this.#options
    const { signal } = this.#abort
    try {
      await memory.reserve(this, MIN_BYTES, signal)
      this.#heldBytes = MIN_BYTES
      if (signal.aborted) return this.#giveBack()
      for await (const chunk of bytes(this, signal)) {
        await this.#append(chunk)
        signal.throwIfAborted()
      }
      this.isComplete = true
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }

  /** Ends it, and gives its memory back; nobody may follow it any more. */
  close(): void {
    if (this.isClosed) return
    this.#abort.abort(new Error('the read was closed'))
    this.#change?.resolve()
    for (const follower of this.#followers) this.#leaveBehind(follower)
    this.#giveBack()
  }

  follow(follower: Follower): void {
    this.#followers.add(follower)
    this.window.enter(follower.position)
    this.moved(follower.position, follower.position)
  }

  unfollow(follower: Follower): void {
    if (!this.#followers.delete(follower)) return
    this.#waiting.delete(follower)
    this.window.leave(follower.position)
    if (follower.position >= this.#lead) this.#findLead()
    this.#change?.resolve()
  }

  /** The reader that was furthest ahead has gone: the others set the pace from now on. */
  #findLead(): void {
    if (this.isClosed || !this.isFollowed) return
    this.#lead = this.range.start
    for (const { position } of this.#followers) this.#lead = Math.max(this.#lead, position)
  }

  /** A follower waits for bytes that are not here, or must not be given yet. */
  wait(follower: Follower): void {
    this.#waiting.add(follower)
    this.#activeAt = this.#options.now()
    this.#change?.resolve()
  }

  /** A follower that stood at `from` reads on at `to`. */
  moved(from: number, to: number): void {
    this.#activeAt = this.#options.now()
    const isLead = to > this.#lead
    if (isLead) this.#lead = to
    if (this.window.move(from, to) || isLead) this.#change?.resolve()
  }

  wakeAll(): void {
    for (const follower of this.#followers) follower.wake()
  }

  /** It need not wait for readers any more. */
  goOn(): void {
    this.#change?.resolve()
  }

  reclaim(): void {
    this.#trim(MIN_BLOCKS)
    if (this.isStopped) this.#options.stopped(this)
  }

  async #append(bytes: Uint8Array): Promise<void> {
    for (let rest = bytes; rest.length > 0 && !this.isClosed;) {
      const length = this.window.append(rest)
      if (length === 0) this.window.addBlock(await this.#nextBlock())
      else this.#wakeWaiting()
      rest = rest.subarray(length)
    }
  }

  #wakeWaiting(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const follower of waiting) follower.wake()
  }

  /** Waits until one block more may be filled. Throws when the read is closed. */
  async #nextBlock(): Promise<Buffer> {
    const { now } = this.#options
    for (;;) {
      this.#abort.signal.throwIfAborted()
      const block = this.#isAhead ? undefined : this.#freeBlock()
      if (block) {
        this.#patience.goOn(now())
        return block
      }
      await this.#changed()
    }
  }

  get #isAhead(): boolean {
    if (this.runsAlone || this.#waiting.size > 0) return false
    return this.window.front - this.#lead >= LEAD_BYTES
  }

  #freeBlock(): Buffer | undefined {
    const { window } = this
    const { memory, maxBlocks } = this.#options
    const limit = memory.isShort ? MIN_BLOCKS : maxBlocks
    this.#trim(limit)
    if (window.blocks < limit && this.#takeBlock()) return Buffer.allocUnsafe(BLOCK_BYTES)
    if (window.isOldestNeeded && !this.#isImpatient()) return undefined
    for (const follower of this.#followers) {
      if (follower.position >= window.tail + BLOCK_BYTES) continue
      this.#leaveBehind(follower)
      this.#patience.reset(this.#options.now())
    }
    return window.dropOldest()
  }

  #isImpatient(): boolean {
    const { patienceMs, now } = this.#options
    return this.#patience.wait(patienceMs(), now()) === 0
  }

  #takeBlock(): boolean {
    if ((this.window.blocks + 1) * BLOCK_BYTES <= this.#heldBytes) return true
    if (!this.#options.memory.take(BLOCK_BYTES)) return false
    this.#heldBytes += BLOCK_BYTES
    return true
  }

  /** Drops blocks that no reader needs, down to this many. */
  #trim(blocks: number): void {
    const { window } = this
    while (window.blocks > blocks && !window.isOldestNeeded) window.dropOldest()
    const needed = Math.max(MIN_BLOCKS, window.blocks) * BLOCK_BYTES
    if (this.#options.memory.isShort && needed < this.#heldBytes)
      this.#release(this.#heldBytes - needed)
  }

  #leaveBehind(follower: Follower): void {
    follower.leftBehind()
    this.unfollow(follower)
  }

  #giveBack(): void {
    this.#options.memory.forget(this)
    this.window.clear()
    this.#release(this.#heldBytes)
  }

  #release(bytes: number): void {
    this.#heldBytes -= bytes
    this.#options.memory.release(bytes)
  }

  /** Waits until a reader has moved, or a wait for one has been long enough. */
  async #changed(): Promise<void> {
    const { patienceMs, now } = this.#options
    this.#change = Promise.withResolvers()
    const isStuck = !this.#isAhead
    const timer = isStuck
      ? setTimeout(() => this.#change?.resolve(), this.#patience.wait(patienceMs(), now()) + 1)
      : undefined
    await this.#change.promise
    this.#change = undefined
    clearTimeout(timer)
  }
}
