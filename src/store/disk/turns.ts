// Work on one key happens one piece after the other; different keys do not wait for each other.
// It holds within this process only, which is why one server owns a directory (owner.ts).

export class Turns {
  readonly #last = new Map<string, Promise<unknown>>()

  /** Runs `work` when everything asked for earlier on the key has ended, however it ended. */
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
