// A set of byte positions as sorted, disjoint, half-open intervals. Intervals that touch are merged,
// so that a download in order is one growing interval.

import type { ByteRange } from './range.ts'

export class Intervals {
  /** Ascending: #starts[i] < #ends[i] < #starts[i + 1]. */
  readonly #starts: number[] = []
  readonly #ends: number[] = []
  #bytes = 0

  constructor(from: Iterable<ByteRange> = []) {
    for (const { start, end } of from) this.add(start, end)
  }

  /** The number of bytes in the set. */
  get bytes(): number {
    return this.#bytes
  }

  /** Adds the bytes [start, end). Throws RangeError if these are not byte positions. */
  add(start: number, end: number): void {
    check(start, end)
    if (start === end) return
    const from = this.#firstEndingAt(start)
    let to = from
    let [low, high, held] = [start, end, 0]
    for (; to < this.#starts.length && this.#starts[to]! <= end; to++) {
      low = Math.min(low, this.#starts[to]!)
      high = Math.max(high, this.#ends[to]!)
      held += this.#ends[to]! - this.#starts[to]!
    }
    this.#replace(from, to, low, high)
    this.#bytes += high - low - held
  }

  /** Returns the first position at or after `at` that is missing. */
  endFrom(at: number): number {
    const index = this.#firstEndingAfter(at)
    return (this.#starts[index] ?? Infinity) <= at ? this.#ends[index]! : at
  }

  /** Returns the first position at or after `at` that is in the set, or Infinity. */
  startFrom(at: number): number {
    return Math.max(at, this.#starts[this.#firstEndingAfter(at)] ?? Infinity)
  }

  /** Reports whether the set holds all of [start, end). An empty interval is always held. */
  has(start: number, end: number): boolean {
    return this.endFrom(start) >= end
  }

  /** Returns the gaps within [start, end), ascending. */
  missing(start: number, end: number): ByteRange[] {
    const gaps: ByteRange[] = []
    let at = start
    for (let index = this.#firstEndingAfter(start); at < end; index++) {
      const next = Math.min(this.#starts[index] ?? end, end)
      if (at < next) gaps.push({ start: at, end: next })
      at = this.#ends[index] ?? end
    }
    return gaps
  }

  *[Symbol.iterator](): Iterator<ByteRange> {
    for (let index = 0; index < this.#starts.length; index++) {
      yield { start: this.#starts[index]!, end: this.#ends[index]! }
    }
  }

  toJSON(): [number, number][] {
    return this.#starts.map((start, index) => [start, this.#ends[index]!])
  }

  /** Reads the result of toJSON, in any order. Throws TypeError if any part of it is malformed. */
  static fromJSON(value: unknown): Intervals {
    const pairs: unknown[] = Array.isArray(value) ? value : [value]
    const intervals = new Intervals()
    for (const pair of pairs) {
      const [start, end]: unknown[] = Array.isArray(pair) ? pair : []
      if (typeof start !== 'number' || typeof end !== 'number' || !isInterval(start, end)) {
        throw new TypeError('intervals must be a list of [start, end] pairs of byte positions')
      }
      intervals.add(start, end)
    }
    return intervals
  }

  #replace(from: number, to: number, low: number, high: number): void {
    // The usual case is done in place: splicing would move the rest of the array for every piece.
    if (to === from + 1) {
      this.#starts[from] = low
      this.#ends[from] = high
      return
    }
    this.#starts.splice(from, to - from, low)
    this.#ends.splice(from, to - from, high)
  }

  /** Returns the index of the first interval that ends at or after `at`: it touches or follows. */
  #firstEndingAt(at: number): number {
    return this.#search((end) => end >= at)
  }

  #firstEndingAfter(at: number): number {
    return this.#search((end) => end > at)
  }

  #search(reached: (end: number) => boolean): number {
    let [low, high] = [0, this.#ends.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (reached(this.#ends[middle]!)) high = middle
      else low = middle + 1
    }
    return low
  }
}

function isInterval(start: number, end: number): boolean {
  return Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= 0 && start <= end
}

function check(start: number, end: number): void {
  if (!isInterval(start, end)) throw new RangeError(`not an interval of bytes: ${start} to ${end}`)
}
