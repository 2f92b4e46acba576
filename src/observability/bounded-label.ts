// Values of a label that come from outside, kept to a bounded number of time series.

const OTHER = 'other'

export class BoundedLabel {
  readonly #known = new Set<string>()
  readonly #limit: number

  constructor(limit: number) {
    this.#limit = limit
  }

  /** The value itself for the first so many, 'other' for all that come later. */
  of(value: string): string {
    if (this.#known.has(value)) return value
    if (this.#known.size >= this.#limit) return OTHER
    this.#known.add(value)
    return value
  }
}
