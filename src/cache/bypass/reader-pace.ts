// Which readers have stopped: their client takes nothing, and what is fetched for them waits in vain.
// Pure: time is an argument.

export interface Paced {
  /** Who it is. */
  readonly reader: object
  /** What it reads next, in bytes from the beginning. */
  readonly position: number
  /** It waits for that: it is the upstream that is slow, or somebody else's turn. */
  readonly waits: boolean
}

export class ReaderPace {
  /** When each was last seen to go on, or to wait. */
  readonly #seen = new Map<object, { position: number; at: number }>()

  /** Those of them that are not stopped: they went on, or waited, less than `patienceMs` ago. */
  going<T extends Paced>(readers: readonly T[], now: number, patienceMs: number): readonly T[] {
    const here = new Set(readers.map(({ reader }) => reader))
    for (const reader of this.#seen.keys()) if (!here.has(reader)) this.#seen.delete(reader)
    for (const { reader, position, waits } of readers) {
      const goesOn = waits || this.#seen.get(reader)?.position !== position
      if (goesOn) this.#seen.set(reader, { position, at: now })
    }
    return readers.filter(({ reader }) => now - this.#seen.get(reader)!.at < patienceMs)
  }
}
