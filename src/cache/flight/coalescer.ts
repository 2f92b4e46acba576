// One piece of work per key, however many wait for it. Every waiter gets the same outcome, the
// failure included. The work belongs to nobody's request: it takes no client's signal, so what it
// calls has to be bounded by itself.
/** Work that runs, as one of its waiters sees it. */
export interface Flight<T> {
  readonly promise: Promise<T>
  /** False for the one that started it. */
  readonly joined: boolean
  /** When it began, in milliseconds of the given clock. */
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
    // Everybody may have stopped waiting: then a failure has no one to be told to.
    flight.promise.catch(() => undefined)
    return { ...flight, joined: false }
  }

  async #perform(key: string, work: () => Promise<T>): Promise<T> {
    // Not before the caller has entered the flight into the map, or the removal would come first.
    await Promise.resolve()
    try {
      return await work()
    } finally {
      this.#running.delete(key)
    }
  }
}
