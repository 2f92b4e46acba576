// Bounds the number of time series of a metric label whose values come from outside.

const OTHER = 'other'

export class BoundedLabel {
  readonly #known = new Set<string>()
  readonly #limit: number

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Returns the value itself for the first `limit` distinct values, and 'other' for all later ones. */
  of(value: string): string {
    if (this.#known.has(value)) return value
    if (this.#known.size >= this.#limit) return OTHER
    this.#known.add(value)
    return value
  }
}
