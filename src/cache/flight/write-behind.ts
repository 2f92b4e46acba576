// Writes to the store that no answer waits for: few at a time, bounded, the last one per key wins.
// A write that fails or finds no room costs the cache entry and is reported, nothing more.
import type { CacheObserver } from '../observer.ts'

export interface WriteBehindOptions {
  readonly observer: Pick<CacheObserver, 'storeError' | 'stored'>
  /** Writes that run at once. */
  readonly concurrency?: number
  /** Writes that may wait; one more is dropped. */
  readonly maxPending?: number
  /** Bytes that the waiting ones may hold in memory. */
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
  /** Keys being written now: a second write of such a key waits, or it could land first. */
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
   * Queues a write in place of the one of the same key that still waits; `operation` names it in
   * reports, `bytes` is what `run` keeps in memory until it runs. A write for which there is no room
   * is dropped and reported: the waiting one is made then, because an older record is better than
   * none. Never throws and never waits.
   */
  push(key: string, operation: string, run: () => Promise<void>, bytes = 0): void {
    if (this.#isEnded) return
    const replaced = this.#pending.get(key)
    const count = this.#pending.size + (replaced ? 0 : 1)
    const total = this.#pendingBytes - (replaced?.bytes ?? 0) + bytes
    if (count > this.#maxPending || total > this.#maxPendingBytes) {
      const waiting = `${this.#pending.size} writes (${this.#pendingBytes} bytes)`
      const why = new Error(`the disk is too slow: ${waiting} wait for it, this one is dropped`)
      this.#observer.storeError(operation, why)
      return
    }
    this.#unqueue(key)
    this.#pending.set(key, { operation, run, bytes })
    this.#pendingBytes += bytes
    this.#startMore()
  }

  /** Resolves when nothing is waiting or running, what was pushed meanwhile included. */
  async drain(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values())
  }

  /** Takes nothing any more, and resolves when all it had is written: the store is about to be another's. */
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
    // Not before it stands among the running ones, or it would be removed before it is entered.
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
