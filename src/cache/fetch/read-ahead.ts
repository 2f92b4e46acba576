// What a reader of several parts needs next, so that a part does not cost a round trip each: those that
// lie close together come by one request, and a few requests run ahead of it. Pure.
import type { Intervals } from '../../http/intervals.ts'
import type { ByteRange } from '../../http/range.ts'

/** What lies between two parts is fetched along if it is no more: a request of its own takes longer. */
export const NEAR_PARTS_BYTES = 32 * 1024
/** What came of a request is of no use to who left meanwhile. */
const LONGEST_STRETCH_BYTES = 2 * 1024 * 1024
const MOST_STRETCHES = 4
/** Of so many parts that are here already none needs to be looked at again. */
const MOST_LOOKED_AT = 1024

/** Of these parts, in the order in which they will be read from `parts[first]` on, what is missing. */
export function stretchesAhead(
  parts: readonly ByteRange[],
  first: number,
  have: Pick<Intervals, 'missing'>,
): ByteRange[] {
  const stretches: ByteRange[] = []
  const last = Math.min(parts.length, first + MOST_LOOKED_AT)
  for (let index = first; index < last; index++) {
    const { start, end } = parts[index]!
    for (const gap of have.missing(start, end)) {
      const joined = join(stretches.at(-1), gap)
      if (joined) stretches[stretches.length - 1] = joined
      else if (stretches.length === MOST_STRETCHES) return stretches
      else stretches.push(gap)
    }
  }
  return stretches
}

/** Both and what lies between them; undefined where that is too much. */
function join(stretch: ByteRange | undefined, { start, end }: ByteRange): ByteRange | undefined {
  if (stretch === undefined || start < stretch.start) return undefined
  const isNear = start - stretch.end <= NEAR_PARTS_BYTES
  if (!isNear || end - stretch.start > LONGEST_STRETCH_BYTES) return undefined
  return { start: stretch.start, end: Math.max(stretch.end, end) }
}
