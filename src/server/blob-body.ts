// Decides what the body of a blob response consists of: the whole blob, one range, or a multipart body
// of several ranges (RFC 9110 14 and 15.3.7). Pure except for the random boundary.
import { randomBytes } from 'node:crypto'
import { ifRangeHolds } from '../http/conditions.ts'
import {
  type ByteRange,
  formatContentRange,
  parseRange,
  unsatisfiedContentRange,
} from '../http/range.ts'
import { OciError } from '../oci/errors.ts'
import type { Stretch } from './content-sender.ts'

export const BLOB_TYPE = 'application/octet-stream'

export interface BlobBody {
  readonly status: 200 | 206
  readonly headers: Record<string, string | number>
  /** The ranges for `Content.plan`; undefined for the whole blob. */
  readonly ranges: readonly ByteRange[] | undefined
  readonly stretches: readonly Stretch[]
}

/** What of a request decides what its response carries. */
export interface BodyRequest {
  readonly range: string | undefined
  readonly ifRange: string | undefined
  readonly etag: string
}

/** Throws RANGE_INVALID if no range can be satisfied. A blob of unknown size is always sent whole. */
export function planBlobBody(request: BodyRequest, size: number | undefined): BlobBody {
  const { range, ifRange, etag } = request
  if (size === undefined || range === undefined || !ifRangeHolds(ifRange, etag)) return whole(size)
  const ranges = parseRange(range, size)
  if (ranges === 'unsatisfiable') throw unsatisfiable(size)
  const [first, ...others] = ranges ?? []
  if (ranges === undefined || first === undefined) return whole(size)
  if (others.length === 0) return single(first, size)
  return sum(ranges) > size ? whole(size) : multipart(ranges, size)
}

/**
 * Returns a body of which nothing is sent, for a request whose range is outside `size`, which is only
 * claimed and may be wrong. It asks for the first byte, with which the upstream announces the size.
 */
export function probeSize(
  { range, ifRange, etag }: BodyRequest,
  size: number | undefined,
): BlobBody | undefined {
  if (size === undefined || !ifRangeHolds(ifRange, etag)) return undefined
  if (parseRange(range, size) !== 'unsatisfiable') return undefined
  return { status: 206, headers: {}, ranges: [{ start: 0, end: 1 }], stretches: [] }
}

function whole(size: number | undefined): BlobBody {
  const headers: Record<string, string | number> = { 'content-type': BLOB_TYPE }
  if (size === undefined) {
    return { status: 200, headers, ranges: undefined, stretches: [{ everything: true }] }
  }
  headers['accept-ranges'] = 'bytes'
  headers['content-length'] = size
  const stretches = [{ range: { start: 0, end: size } }]
  return { status: 200, headers, ranges: undefined, stretches }
}

function single(range: ByteRange, size: number): BlobBody {
  const headers = {
    'content-type': BLOB_TYPE,
    'accept-ranges': 'bytes',
    'content-length': range.end - range.start,
    'content-range': formatContentRange(range, size),
  }
  return { status: 206, headers, ranges: [range], stretches: [{ range }] }
}

// Sends exactly the requested parts in the requested order: podman counts them. Ranges that add up to
// more than the blob get the whole blob instead: a small request could ask for any number of bytes.
function multipart(ranges: readonly ByteRange[], size: number): BlobBody {
  const boundary = randomBytes(18).toString('hex')
  const stretches: Stretch[] = []
  let length = sum(ranges)
  let opening = `--${boundary}`
  const literal = (text: string) => {
    const bytes = Buffer.from(text, 'latin1')
    length += bytes.length
    stretches.push({ literal: bytes })
  }
  for (const range of ranges) {
    const contentRange = formatContentRange(range, size)
    literal(`${opening}\r\nContent-Type: ${BLOB_TYPE}\r\nContent-Range: ${contentRange}\r\n\r\n`)
    stretches.push({ range })
    opening = `\r\n--${boundary}`
  }
  literal(`\r\n--${boundary}--\r\n`)
  const headers = {
    'content-type': `multipart/byteranges; boundary=${boundary}`,
    'accept-ranges': 'bytes',
    'content-length': length,
  }
  return { status: 206, headers, ranges, stretches }
}

function unsatisfiable(size: number): OciError {
  const headers = { 'content-range': unsatisfiedContentRange(size) }
  return new OciError('RANGE_INVALID', `the range is outside the blob, which has ${size} bytes`, {
    headers,
  })
}

function sum(ranges: readonly ByteRange[]): number {
  return ranges.reduce((total, range) => total + range.end - range.start, 0)
}
