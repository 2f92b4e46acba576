// What a reader of several parts needs next. Parts that lie close together come by one request, and a few
// requests run ahead of the reader, so that a part does not cost a round trip each. Pure.
import type { Intervals } from '../../http/intervals.ts'
import type { ByteRange } from '../../http/range.ts'

/** A gap up to this many bytes is fetched along with its neighbours: a request of its own takes longer. */
export const NEAR_PARTS_BYTES = 32 * 1024
/** The most bytes of one request: they are of no use if the reader leaves meanwhile. */
const MAX_STRETCH_BYTES = 2 * 1024 * 1024
const MAX_STRETCHES = 4
/** The most parts that are looked at; those behind them wait. */
const MAX_PARTS = 1024

/** Returns what is missing of the parts from `parts[first]` on, in the order in which they will be read. */
export function stretchesAhead(
  parts: readonly ByteRange[],
  first: number,
  have: Pick<Intervals, 'missing'>,
): ByteRange[] {
  const stretches: ByteRange[] = []
  const last = Math.min(parts.length, first + MAX_PARTS)
  for (let index = first; index < last; index++) {
    const { start, end } = parts[index]!
    for (const gap of have.missing(start, end)) {
      const joined = join(stretches.at(-1), gap)
      if (joined) stretches[stretches.length - 1] = joined
      else if (stretches.length === MAX_STRETCHES) return stretches
      else stretches.push(gap)
    }
  }
  return stretches
}

/** Returns both and what lies between them, or undefined where that is too much. */
function join(stretch: ByteRange | undefined, { start, end }: ByteRange): ByteRange | undefined {
  if (stretch === undefined || start < stretch.start) return undefined
  const isNear = start - stretch.end <= NEAR_PARTS_BYTES
  if (!isNear || end - stretch.start > MAX_STRETCH_BYTES) return undefined
  return { start: stretch.start, end: Math.max(stretch.end, end) }
}
