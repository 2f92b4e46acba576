// Every write of a store goes through its gate, so that the directory can be released: after
// `close` no write begins, and running ones can be waited for. Reads do not need it.

/** The directory was released, or another server has taken it. */
export class StoreClosed extends Error {
  override readonly name = 'StoreClosed'
  override readonly message = 'the store is closed: nothing can be written to it'
}

export class WriteGate {
  readonly #running = new Set<Promise<unknown>>()
  #isClosed = false

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Throws StoreClosed after `close`. Call it between the steps of a long write. */
  check(): void {
    if (this.#isClosed) throw new StoreClosed()
  }

  /** Runs a write. Throws StoreClosed after `close`. */
  async run<T>(write: () => Promise<T>): Promise<T> {
    this.check()
    const running = write()
    this.#running.add(running)
    try {
      return await running
    } finally {
      this.#running.delete(running)
    }
  }

  /** Refuses new writes. Resolves when the running ones have ended. */
  async close(): Promise<void> {
    this.#isClosed = true
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
  }
}
