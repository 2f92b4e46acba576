// Range and Content-Range for the unit bytes (RFC 9110 14). Ends are exclusive here, inclusive there.

export interface ByteRange {
  readonly start: number
  /** The byte after the last one. */
  readonly end: number
}

/** podman asks for up to 1,024 ranges at once; with more than this Range is ignored, which is always allowed. */
export const MAX_RANGES = 8_192
const MAX_HEADER_LENGTH = 131_072

const RANGES = /^\s*bytes\s*=(.*)$/is
const RANGE = /^([0-9]*)-([0-9]*)$/
const CONTENT_RANGE = /^\s*bytes\s+([0-9]{1,16})-([0-9]{1,16})\/([0-9]{1,16}|\*)\s*$/i

/**
 * The ranges asked for, in the order and with the overlaps they were sent with, cut to the size;
 * unsatisfiable ones are left out, and if that leaves none the answer is 416. Undefined: answer 200
 * with everything, because Range is absent, malformed, of another unit or has too many ranges, or
 * because there is nothing (an empty blob has no range that Content-Range could name).
 */
export function parseRange(
  header: string | undefined,
  size: number,
): ByteRange[] | 'unsatisfiable' | undefined {
  if (header === undefined || header.length > MAX_HEADER_LENGTH) return undefined
  const specs = RANGES.exec(header)?.[1]?.split(',')
  if (specs === undefined || specs.length > MAX_RANGES || size === 0) return undefined
  const ranges: ByteRange[] = []
  let seen = 0
  for (const spec of specs.map((text) => text.trim())) {
    if (spec === '') continue
    const range = readRange(spec, size)
    if (range === undefined) return undefined
    seen += 1
    if (range.start < range.end) ranges.push(range)
  }
  if (seen === 0) return undefined
  return ranges.length === 0 ? 'unsatisfiable' : ranges
}

/** An empty range stands for one that cannot be satisfied; undefined for what is no range at all. */
function readRange(spec: string, size: number): ByteRange | undefined {
  const [, first, last] = RANGE.exec(spec) ?? []
  if (first === undefined || last === undefined || (first === '' && last === '')) return undefined
  if (first === '') return { start: Math.max(0, size - Number(last)), end: size }
  if (last !== '' && Number(last) < Number(first)) return undefined
  return { start: Number(first), end: last === '' ? size : Math.min(Number(last) + 1, size) }
}

/** Content-Range of a 206; the size is undefined while nobody knows it. The range must not be empty. */
export function formatContentRange(range: ByteRange, size: number | undefined): string {
  return `bytes ${range.start}-${range.end - 1}/${size ?? '*'}`
}

/** Content-Range of a 416. */
export function unsatisfiedContentRange(size: number): string {
  return `bytes */${size}`
}

/** What a 206 says it holds; undefined when absent, malformed, contradictory, or that of a 416. */
export function parseContentRange(
  header: string | undefined,
): { start: number; end: number; size: number | undefined } | undefined {
  const [, first, last, total] = CONTENT_RANGE.exec(header ?? '') ?? []
  if (first === undefined || last === undefined || total === undefined) return undefined
  const [start, end] = [Number(first), Number(last) + 1]
  const size = total === '*' ? undefined : Number(total)
  const sound = start < end && end <= (size ?? end) && Number.isSafeInteger(size ?? end)
  return sound ? { start, end, size } : undefined
}
