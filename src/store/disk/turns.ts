// Serializes work on the same key; different keys do not wait for each other. This works within one
// process only, which is one reason why a directory has a single owner (owner.ts).

export class Turns {
  readonly #last = new Map<string, Promise<unknown>>()

  /** Runs `work` once all earlier work on the key has ended, whether it succeeded or failed. */
  async take<T>(key: string, work: () => Promise<T>): Promise<T> {
    const former = this.#last.get(key)
    const turn = former === undefined ? work() : former.then(work, work)
    this.#last.set(key, turn)
    try {
      return await turn
    } finally {
      if (this.#last.get(key) === turn) this.#last.delete(key)
    }
  }
}
