// What is asked for again and again though nothing comes of it. Sources that fail are given up after a
// few tries anyhow (source-queue.ts); this is for answers that are no failure and still of no use, and
// for what nobody has thought of: whatever is asked for without end, it ends here. Pure.

/** Asked for so often, with nothing gained from first to last, it is in vain. */
export const MOST_IN_VAIN = 25

export class VainTries {
  /** By the first byte that was asked for. */
  readonly #tries = new Map<number, number>()
  #gained: number | undefined

  /**
   * A request for what begins at `start` is over. `gained`: another number than before where anything
   * came of whatever was asked since. @returns whether it was the last that is worth it; then it counts anew.
   */
  isLast(start: number, gained: number): boolean {
    if (gained !== this.#gained) this.#tries.clear()
    this.#gained = gained
    const tries = (this.#tries.get(start) ?? 0) + 1
    this.#tries.set(start, tries)
    if (tries >= MOST_IN_VAIN) this.#tries.clear()
    return tries >= MOST_IN_VAIN
  }

  /** Somebody else wants something: it may be tried again. */
  forget(): void {
    this.#tries.clear()
  }
}
