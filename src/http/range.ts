// Range and Content-Range in bytes (RFC 9110 section 14). Ends are exclusive in code, inclusive in headers.

export interface ByteRange {
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

/** podman asks for up to 1,024 ranges at once. A Range with more than this is ignored, as any server may. */
export const MAX_RANGES = 8_192
const MAX_HEADER_LENGTH = 131_072

const RANGES = /^\s*bytes\s*=(.*)$/is
const RANGE = /^([0-9]*)-([0-9]*)$/
const CONTENT_RANGE = /^\s*bytes\s+([0-9]{1,16})-([0-9]{1,16})\/([0-9]{1,16}|\*)\s*$/i

/**
 * Returns the requested ranges in the order sent, overlaps included, cut to the size and without
 * those that cannot be satisfied; `unsatisfiable` (416) if none is left. Returns undefined if the
 * response is a 200: Range is absent, malformed, in another unit or has too many ranges, or the
 * content is empty, so that no Content-Range could describe it.
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

/** Returns an empty range if the range cannot be satisfied, and undefined if it is malformed. */
function readRange(spec: string, size: number): ByteRange | undefined {
  const [, first, last] = RANGE.exec(spec) ?? []
  if (first === undefined || last === undefined || (first === '' && last === '')) return undefined
  if (first === '') return { start: Math.max(0, size - Number(last)), end: size }
  if (last !== '' && Number(last) < Number(first)) return undefined
  return { start: Number(first), end: last === '' ? size : Math.min(Number(last) + 1, size) }
}

/** Returns the Content-Range of a 206. The range must not be empty; the size may be unknown. */
export function formatContentRange(range: ByteRange, size: number | undefined): string {
  return `bytes ${range.start}-${range.end - 1}/${size ?? '*'}`
}

/** Returns the Content-Range of a 416. */
export function unsatisfiedContentRange(size: number): string {
  return `bytes */${size}`
}

/** Reads the Content-Range of a 206. Returns undefined if it is absent, malformed, contradictory or a 416's. */
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
