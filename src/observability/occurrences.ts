// Counts repeated events, so that each is logged only once in a while. Memory is bounded.

const MAX_KEYS = 1000

interface Occurrence {
  readonly reportedAt: number
  suppressed: number
}

export class Occurrences {
  readonly #quietMs: number
  readonly #seen = new Map<string, Occurrence>()

  constructor(quietMs: number) {
    this.#quietMs = quietMs
  }

  /**
   * Counts an event. Returns undefined if it should be suppressed, because one was reported less than
   * `quietMs` ago; else the number suppressed since the last report.
   */
  count(key: string, nowMs: number): number | undefined {
    const last = this.#seen.get(key)
    // A clock that was set back must not suppress events for long.
    if (last && nowMs >= last.reportedAt && nowMs - last.reportedAt < this.#quietMs) {
      last.suppressed += 1
      return undefined
    }
    this.#seen.delete(key)
    this.#seen.set(key, { reportedAt: nowMs, suppressed: 0 })
    this.#forgetOldest()
    return last?.suppressed ?? 0
  }

  #forgetOldest(): void {
    const oldest = this.#seen.keys().next().value
    if (this.#seen.size > MAX_KEYS && oldest !== undefined) this.#seen.delete(oldest)
  }
}
