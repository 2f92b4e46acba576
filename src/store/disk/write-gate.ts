// Every write of a store passes here, so that its directory can be given back: from then on none begins, and
// those that run can be waited for. Reading needs no gate.

/** The directory was given back, or another server has taken it. */
export class StoreClosed extends Error {
  override readonly name = 'StoreClosed'
  override readonly message = 'the store is closed: nothing is written any more'
}

export class WriteGate {
  readonly #running = new Set<Promise<unknown>>()
  #isClosed = false

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Throws StoreClosed after `close`: to be called between the steps of a write that takes long. */
  check(): void {
    if (this.#isClosed) throw new StoreClosed()
  }

  /** Runs a write. Throws StoreClosed after `close`. */
  async pass<T>(write: () => Promise<T>): Promise<T> {
    this.check()
    const running = write()
    this.#running.add(running)
    try {
      return await running
    } finally {
      this.#running.delete(running)
    }
  }

  /** Lets no write begin from now on. Resolves when those that run have ended. */
  async close(): Promise<void> {
    this.#isClosed = true
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
  }
}
