// Counts what happens again and again, so that it is told once in a while. Bounded in memory.

const MAX_KEYS = 1000

interface Occurrence {
  readonly toldAt: number
  suppressed: number
}

export class Occurrences {
  readonly #quietMs: number
  readonly #seen = new Map<string, Occurrence>()

  constructor(quietMs: number) {
    this.#quietMs = quietMs
  }

  /** Undefined: be quiet, it was told a moment ago. A number: tell it, so many were kept quiet since. */
  count(key: string, nowMs: number): number | undefined {
    const last = this.#seen.get(key)
    // A clock that was set back must not make it quiet for long.
    if (last && nowMs >= last.toldAt && nowMs - last.toldAt < this.#quietMs) {
      last.suppressed += 1
      return undefined
    }
    this.#seen.delete(key)
    this.#seen.set(key, { toldAt: nowMs, suppressed: 0 })
    this.#forgetOldest()
    return last?.suppressed ?? 0
  }

  #forgetOldest(): void {
    const oldest = this.#seen.keys().next().value
    if (this.#seen.size > MAX_KEYS && oldest !== undefined) this.#seen.delete(oldest)
  }
}
