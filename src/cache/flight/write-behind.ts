// Queues the writes to the store that no response waits for. A few run at a time, the queue is
// bounded, and the last write per key wins. A write that fails or does not fit costs a cache entry
// and is reported.
import type { CacheObserver } from '../observer.ts'

export interface WriteBehindOptions {
  readonly observer: Pick<CacheObserver, 'storeError' | 'stored'>
  /** The most writes that run at once. */
  readonly concurrency?: number
  /** The most writes that may wait; further ones are dropped. */
  readonly maxPending?: number
  /** The most bytes that waiting writes may hold in memory. */
  readonly maxPendingBytes?: number
}

interface Write {
  readonly operation: string
  readonly run: () => Promise<void>
  readonly bytes: number
}

export class WriteBehind {
  readonly #observer: Pick<CacheObserver, 'storeError' | 'stored'>
  readonly #concurrency: number
  readonly #maxPending: number
  readonly #maxPendingBytes: number
  readonly #pending = new Map<string, Write>()
  /**
   * Running writes, by key. A second write of the same key waits: otherwise it could finish first.
   */
  readonly #running = new Map<string, Promise<void>>()
  #pendingBytes = 0
  #isEnded = false

  constructor(options: WriteBehindOptions) {
    this.#observer = options.observer
    this.#concurrency = options.concurrency ?? 4
    this.#maxPending = options.maxPending ?? 20_000
    this.#maxPendingBytes = options.maxPendingBytes ?? 32 * 1024 * 1024
  }

  /**
   * Queues a write. It replaces a waiting write of the same key. `operation` names it in reports,
   * and `bytes` is what `run` keeps in memory until then. If the queue is full, the new write is
   * dropped and reported, and the waiting one stays: an older record is better than none. Never
   * throws and never waits.
   */
  push(key: string, operation: string, run: () => Promise<void>, bytes = 0): void {
    if (this.#isEnded) return
    const replaced = this.#pending.get(key)
    const count = this.#pending.size + (replaced ? 0 : 1)
    const total = this.#pendingBytes - (replaced?.bytes ?? 0) + bytes
    if (count > this.#maxPending || total > this.#maxPendingBytes) {
      const waiting = `${this.#pending.size} writes (${this.#pendingBytes} bytes)`
      const why = new Error(`the disk is too slow: ${waiting} are waiting, so this one was dropped`)
      this.#observer.storeError(operation, why)
      return
    }
    this.#unqueue(key)
    this.#pending.set(key, { operation, run, bytes })
    this.#pendingBytes += bytes
    this.#startMore()
  }

  /** Resolves when no write is waiting or running, including those that are pushed meanwhile. */
  async drain(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values())
  }

  /**
   * Ignores further writes and resolves when the queued ones are done. Call it before another
   * server takes the store.
   */
  async end(): Promise<void> {
    this.#isEnded = true
    await this.drain()
  }

  #unqueue(key: string): void {
    const write = this.#pending.get(key)
    if (write === undefined) return
    this.#pending.delete(key)
    this.#pendingBytes -= write.bytes
  }

  #startMore(): void {
    for (const [key, write] of this.#pending) {
      if (this.#running.size >= this.#concurrency) return
      if (this.#running.has(key)) continue
      this.#unqueue(key)
      this.#running.set(key, this.#perform(key, write))
    }
  }

  async #perform(key: string, write: Write): Promise<void> {
    // Let #startMore add the key to #running first: a `run` that throws at once would remove it
    // before that.
    await Promise.resolve()
    try {
      await write.run()
      this.#observer.stored?.(write.operation)
    } catch (error) {
      this.#observer.storeError(write.operation, error)
    } finally {
      this.#running.delete(key)
      this.#startMore()
    }
  }
}
