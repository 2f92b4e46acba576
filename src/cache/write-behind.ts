// Writes to the store that no answer waits for: few at a time, bounded, the last one per key wins.
// A write that fails or finds no room costs the cache entry and is reported, nothing more.
import type { CacheObserver } from './observer.ts'

export interface WriteBehindOptions {
  readonly observer: Pick<CacheObserver, 'storeError'>
  /** Writes that run at once. */
  readonly concurrency?: number
  /** Writes that may wait; one more is dropped. */
  readonly maxPending?: number
}

interface Write {
  readonly operation: string
  readonly run: () => Promise<void>
}

export class WriteBehind {
  readonly #observer: Pick<CacheObserver, 'storeError'>
  readonly #concurrency: number
  readonly #maxPending: number
  readonly #pending = new Map<string, Write>()
  /** Keys being written now: a second write of such a key waits, or it could land first. */
  readonly #running = new Map<string, Promise<void>>()

  constructor(options: WriteBehindOptions) {
    this.#observer = options.observer
    this.#concurrency = options.concurrency ?? 4
    this.#maxPending = options.maxPending ?? 20_000
  }

  /** Queues a write; `operation` names it in reports. Never throws and never waits. */
  push(key: string, operation: string, run: () => Promise<void>): void {
    if (!this.#pending.has(key) && this.#pending.size >= this.#maxPending) {
      const why = new Error(
        `${this.#maxPending} writes to the store are waiting: this one is dropped`,
      )
      this.#observer.storeError(operation, why)
      return
    }
    this.#pending.set(key, { operation, run })
    this.#startMore()
  }

  /** Resolves when nothing is waiting or running, what was pushed meanwhile included. */
  async drain(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values())
  }

  #startMore(): void {
    for (const [key, write] of this.#pending) {
      if (this.#running.size >= this.#concurrency) return
      if (this.#running.has(key)) continue
      this.#pending.delete(key)
      this.#running.set(key, this.#perform(key, write))
    }
  }

  async #perform(key: string, write: Write): Promise<void> {
    // Not before it stands among the running ones, or it would be removed before it is entered.
    await Promise.resolve()
    try {
      await write.run()
    } catch (error) {
      this.#observer.storeError(write.operation, error)
    } finally {
      this.#running.delete(key)
      this.#startMore()
    }
  }
}
