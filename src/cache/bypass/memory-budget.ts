// The memory of all blobs that are bypassing the cache, as one hard bound. A read that gets no memory
// waits its turn; while anybody waits, the others give back what they do not need.

const MIB = 1024 * 1024
/** The most bytes that all bypassing blobs hold together. */
const MAX_BYTES = 256 * MIB
/** How often holders are asked to give memory back while somebody waits, in milliseconds. */
const RECLAIM_EVERY_MS = 200

/** Somebody who holds memory. */
export interface MemoryHolder {
  /** Gives back what it does not need; everything, if what it holds is for readers that have stopped. */
  reclaim(): void
}

interface Waiter {
  readonly bytes: number
  readonly grant: () => void
}

export class MemoryBudget {
  readonly #maxBytes: number
  readonly #holders = new Set<MemoryHolder>()
  /** In the order in which they came. */
  readonly #waiters = new Set<Waiter>()
  #usedBytes = 0
  #peakBytes = 0
  #timer: NodeJS.Timeout | undefined

  constructor(maxBytes = MAX_BYTES) {
    this.#maxBytes = maxBytes
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  /** The most that was ever in use at once. */
  get peakBytes(): number {
    return this.#peakBytes
  }

  /** Whether somebody waits: nobody should hold more than it needs. */
  get isShort(): boolean {
    return this.#waiters.size > 0
  }

  /** Takes `bytes` now if they are free and nobody waits for them. */
  take(bytes: number): boolean {
    if (this.isShort || this.#usedBytes + bytes > this.#maxBytes) return false
    this.#use(bytes)
    return true
  }

  /**
   * Takes the `bytes` that a holder cannot do without, as soon as they are free; first come, first served.
   * Throws the reason of the signal, and RangeError for more bytes than there will ever be.
   */
  async reserve(holder: MemoryHolder, bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (bytes > this.#maxBytes)
      throw new RangeError(`${bytes} bytes are more than the whole budget`)
    if (!this.take(bytes)) await this.#wait(bytes, signal)
    this.#holders.add(holder)
  }

  /** Gives back `bytes` that were taken or reserved. */
  release(bytes: number): void {
    this.#usedBytes -= bytes
    this.#grant()
  }

  /** The holder has given everything back. */
  forget(holder: MemoryHolder): void {
    this.#holders.delete(holder)
  }

  #use(bytes: number): void {
    this.#usedBytes += bytes
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes)
  }

  async #wait(bytes: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const waiter: Waiter = { bytes, grant: resolve }
    const aborted = () => {
      // One that was granted a moment ago keeps what it has: it is over before the abort.
      if (this.#waiters.delete(waiter)) reject(signal.reason)
      this.#grant()
    }
    this.#waiters.add(waiter)
    signal.addEventListener('abort', aborted, { once: true })
    this.#reclaim()
    try {
      await promise
    } finally {
      signal.removeEventListener('abort', aborted)
    }
  }

  #grant(): void {
    for (const waiter of this.#waiters) {
      if (this.#usedBytes + waiter.bytes > this.#maxBytes) return
      this.#waiters.delete(waiter)
      this.#use(waiter.bytes)
      waiter.grant()
    }
  }

  #reclaim(): void {
    if (this.#timer !== undefined) return
    const look = () => {
      for (const holder of this.#holders) if (this.isShort) holder.reclaim()
      if (this.isShort) return
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    this.#timer = setInterval(look, RECLAIM_EVERY_MS)
    this.#timer.unref()
    look()
  }
}
