// Runs one piece of work per key, however many wait for it. Every waiter gets the same outcome, a
// failure included. The work belongs to no request and takes no client's signal, so what it calls must
// have time limits of its own.

/** Running work, as one of its waiters sees it. */
export interface Flight<T> {
  readonly promise: Promise<T>
  /** False for the waiter that started the work. */
  readonly joined: boolean
  /** When the work began, in milliseconds of the given clock. */
  readonly startedAt: number
}

export class Coalescer<T> {
  readonly #now: () => number
  readonly #running = new Map<string, { promise: Promise<T>; startedAt: number }>()

  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  get size(): number {
    return this.#running.size
  }

  has(key: string): boolean {
    return this.#running.has(key)
  }

  /** Joins the running work of this key, or starts `work`. */
  run(key: string, work: () => Promise<T>): Flight<T> {
    const running = this.#running.get(key)
    if (running !== undefined) return { ...running, joined: true }
    const flight = { promise: this.#perform(key, work), startedAt: this.#now() }
    this.#running.set(key, flight)
    // Nobody may be waiting any more when the work fails: that is not an unhandled rejection.
    flight.promise.catch(() => undefined)
    return { ...flight, joined: false }
  }

  async #perform(key: string, work: () => Promise<T>): Promise<T> {
    // Let `run` enter the flight into the map first, or work that ends at once is never removed.
    await Promise.resolve()
    try {
      return await work()
    } finally {
      this.#running.delete(key)
    }
  }
}
