// Blobs from one place: the body from any byte on, or asked for by HEAD.
import { parseContentRange } from '../../http/range.ts'
import { algorithmOf, digestOf } from '../../oci/digest.ts'
import type { Digest } from '../../oci/digest.ts'
import { bareType } from '../../oci/media-types.ts'
import { UpstreamError } from '../face/failure.ts'
import { ask, headerOf, lengthOf, wrongAnswer } from '../client/place.ts'
import type { Place } from '../client/place.ts'
import type { BlobRange, SourceResponse } from '../face/source.ts'
import type { RegistryResponse } from '../client/request.ts'
import type { BlobHead } from '../face/answers.ts'

type Body = SourceResponse['body']

/** A part of the blob (a number is where it starts), or all of it where Range is ignored. Throws UpstreamError. */
export async function getBlob(
  place: Place,
  digest: Digest,
  range: BlobRange | number,
  signal?: AbortSignal,
): Promise<SourceResponse> {
  const asked = typeof range === 'number' ? { start: range } : range
  const response = await ask(place, {
    method: 'GET',
    path: `blobs/${digest}`,
    range: rangeHeader(asked),
    signal,
    kind: 'blob',
  })
  try {
    refusePages(place, digest, response)
    return readResponse(place, response, asked)
  } catch (error) {
    response.body.discard()
    throw error
  }
}

/** Undefined for the whole blob: some hosts are slower with Range, and a 200 says how long it is. */
function rangeHeader({ start, end }: BlobRange): string | undefined {
  if (end !== undefined && end <= start) throw new RangeError(`no bytes in [${start}, ${end})`)
  if (end !== undefined) return `bytes=${start}-${end - 1}`
  return start > 0 ? `bytes=${start}-` : undefined
}

function readResponse(place: Place, response: RegistryResponse, asked: BlobRange): SourceResponse {
  const { status, body, grantedBy } = response
  const length = lengthOf(response)
  if (status === 416) return readPastEnd(place, response, asked.start)
  if (status !== 206) return { start: 0, size: length, end: length, ranged: false, body, grantedBy }
  const range = parseContentRange(headerOf(response, 'content-range'))
  // Only the whole can be an answer to another question than ours: what begins elsewhere is no place to
  // take bytes by.
  const isPlaced = range?.start === asked.start || range?.start === 0
  if (range === undefined || !isPlaced || range.end <= asked.start) {
    throw wrongAnswer(place, 'protocol', `answers another range than from byte ${asked.start}`)
  }
  const announced = range.end - range.start
  if (length !== undefined && length !== announced) {
    throw wrongAnswer(place, 'protocol', `announces ${length} bytes for a range of ${announced}`)
  }
  const { start, end, size } = range
  const ranged = start === asked.start && end <= (asked.end ?? Infinity) && size !== undefined
  // With a length the connection itself counts; without one a cut would pass for the end.
  const counted = length === undefined ? counting(place, body, announced) : body
  return { start, end, size, ranged, body: counted, grantedBy }
}

/** Asking from the very end on is how a reader learns that it has everything. */
function readPastEnd(place: Place, response: RegistryResponse, start: number): SourceResponse {
  response.body.discard()
  const size = sizeOf416(response)
  const { grantedBy } = response
  if (size === start) return { start, end: size, size, ranged: true, body: emptyBody(), grantedBy }
  const what = `has nothing from byte ${start} on, the blob has ${size ?? 'an unknown number of'} bytes`
  throw wrongAnswer(place, size === undefined ? 'protocol' : 'wrong-size', what, response.status)
}

function sizeOf416(response: RegistryResponse): number | undefined {
  const size = /^bytes \*\/(\d{1,15})$/i.exec(headerOf(response, 'content-range') ?? '')?.[1]
  return size === undefined ? undefined : Number(size)
}

function counting(place: Place, body: Body, announced: number): Body {
  const counted = count(place, body, announced)
  return { [Symbol.asyncIterator]: () => counted, discard: () => body.discard() }
}

async function* count(place: Place, body: Body, announced: number): AsyncGenerator<Uint8Array> {
  let received = 0
  for await (const chunk of body) {
    received += chunk.length
    if (received > announced) {
      throw wrongAnswer(place, 'wrong-size', `sends more than the ${announced} bytes it announced`)
    }
    yield chunk
  }
  if (received < announced) {
    throw wrongAnswer(place, 'cut', `sent ${received} of the ${announced} bytes it announced`)
  }
}

function emptyBody(): Body {
  return { [Symbol.asyncIterator]: async function* () {}, discard: () => undefined }
}

/** Statuses with which hosts refuse HEAD on what they give by GET: public.ecr.aws 401, signed URLs 403. */
const HEAD_REFUSED = [400, 401, 403, 405, 501]

/** HEAD, or the first byte by GET where that is refused. Throws UpstreamError. */
export async function headBlob(
  place: Place,
  digest: Digest,
  signal?: AbortSignal,
): Promise<BlobHead> {
  const question = { path: `blobs/${digest}`, signal, kind: 'blob' } as const
  const response = await ask(place, { ...question, method: 'HEAD' }).catch((error: unknown) => {
    const isRefused = error instanceof UpstreamError && HEAD_REFUSED.includes(error.status ?? 0)
    if (!isRefused || error.reason === 'blocked') throw error
    return ask(place, { ...question, method: 'GET', range: 'bytes=0-0' })
  })
  response.body.discard()
  refusePages(place, digest, response)
  return {
    size: readSize(response, digest),
    grantedBy: response.grantedBy,
    endpoint: place.endpoint.key,
  }
}

/** A login page with 200 is no blob, nor the upstream's word that somebody may have it. */
function refusePages(place: Place, digest: Digest, response: RegistryResponse): void {
  const isPage = bareType(headerOf(response, 'content-type')) === 'text/html'
  if (!isPage || headerOf(response, 'docker-content-digest') === digest) return
  const cure = 'check mirrors.<registry>.endpoint and its path, and proxies on the way'
  throw wrongAnswer(place, 'protocol', `sends a web page for blob ${digest}: ${cure}`)
}

function readSize(response: RegistryResponse, digest: Digest): number | undefined {
  if (response.status === 416) return sizeOf416(response)
  if (response.status === 206) return parseContentRange(headerOf(response, 'content-range'))?.size
  const length = lengthOf(response)
  const isEmpty = digest === digestOf(new Uint8Array(), algorithmOf(digest))
  // Proxies in between say 0 for a length they do not know.
  return length === 0 && !isEmpty ? undefined : length
}
