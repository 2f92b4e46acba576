// Blobs at one endpoint: a GET for all or part of the bytes, and a HEAD for the size.
import { parseContentRange } from '../../http/range.ts'
import { algorithmOf, digestOf } from '../../oci/digest.ts'
import type { Digest } from '../../oci/digest.ts'
import { bareType } from '../../oci/media-types.ts'
import { UpstreamError } from '../face/failure.ts'
import { ask, headerOf, lengthOf, wrongAnswer } from '../client/session.ts'
import type { BlobRange, SourceResponse } from '../face/source.ts'
import type { EndpointSession, RegistryResponse } from '../client/request.ts'
import type { BlobHead } from '../face/answers.ts'

type Body = SourceResponse['body']

/** A response whose body is still arriving; `ended` resolves at the end of the body. */
export type BlobResponse = SourceResponse & Pick<RegistryResponse['body'], 'ended'>

/**
 * Gets a part of the blob (a number is where it starts), or all of it if the registry ignores Range.
 * Rejects as links do.
 */
export async function getBlob(
  session: EndpointSession,
  digest: Digest,
  range: BlobRange | number,
  signal: AbortSignal,
): Promise<BlobResponse> {
  const asked = typeof range === 'number' ? { start: range } : range
  const request = { method: 'GET', path: `blobs/${digest}`, kind: 'blob' } as const
  const response = await ask(session, { ...request, range: rangeHeader(asked) }, signal)
  try {
    refusePages(session, digest, response)
    const { ended } = response.body
    return { ...readResponse(session, response, asked), ended }
  } catch (error) {
    response.body.discard()
    throw error
  }
}

/** Calls `release` when the body has ended, was discarded, or its reader has stopped. */
export function holdUntilEnded(response: BlobResponse, release: () => void): BlobResponse {
  const { body, ended } = response
  void ended.finally(release)
  const chunks = body[Symbol.asyncIterator]()
  const stop = async (): Promise<IteratorResult<Uint8Array>> => {
    release()
    return (await chunks.return?.()) ?? { done: true, value: undefined }
  }
  const discard = () => {
    release()
    body.discard()
  }
  const iterator = { next: () => chunks.next(), return: stop }
  return { ...response, body: { [Symbol.asyncIterator]: () => iterator, discard } }
}

/**
 * Returns undefined for the whole blob: some hosts are slower with Range, and a 200 has a length.
 */
function rangeHeader({ start, end }: BlobRange): string | undefined {
  if (end !== undefined && end <= start) throw new RangeError(`no bytes in [${start}, ${end})`)
  if (end !== undefined) return `bytes=${start}-${end - 1}`
  return start > 0 ? `bytes=${start}-` : undefined
}

function readResponse(
  session: EndpointSession,
  response: RegistryResponse,
  asked: BlobRange,
): SourceResponse {
  const { status, body, grantedBy } = response
  const length = lengthOf(response)
  if (status === 416) return readPastEnd(session, response, asked.start)
  if (status !== 206) return { start: 0, size: length, end: length, ranged: false, body, grantedBy }
  const range = parseContentRange(headerOf(response, 'content-range'))
  // A range that starts at 0 may be the whole blob. Any other start that was not asked for cannot be
  // trusted to say where its bytes belong.
  const isPlaced = range?.start === asked.start || range?.start === 0
  if (range === undefined || !isPlaced || range.end <= asked.start) {
    throw wrongAnswer(session, 'protocol', `answers another range than from byte ${asked.start}`)
  }
  const announced = range.end - range.start
  if (length !== undefined && length !== announced) {
    throw wrongAnswer(session, 'protocol', `announces ${length} bytes for a range of ${announced}`)
  }
  const { start, end, size } = range
  const ranged = start === asked.start && end <= (asked.end ?? Infinity) && size !== undefined
  // With a Content-Length the connection counts the bytes. Without one a cut would pass for the end.
  const counted = length === undefined ? counting(session, body, announced) : body
  return { start, end, size, ranged, body: counted, grantedBy }
}

/** A reader that asks from the end of the blob on learns from a 416 that it has everything. */
function readPastEnd(
  session: EndpointSession,
  response: RegistryResponse,
  start: number,
): SourceResponse {
  response.body.discard()
  const size = sizeOf416(response)
  const { grantedBy } = response
  if (size === start) return { start, end: size, size, ranged: true, body: emptyBody(), grantedBy }
  const what = `has nothing from byte ${start} on, the blob has ${size ?? 'an unknown number of'} bytes`
  throw wrongAnswer(session, size === undefined ? 'protocol' : 'wrong-size', what, response.status)
}

function sizeOf416(response: RegistryResponse): number | undefined {
  const size = /^bytes \*\/(\d{1,15})$/i.exec(headerOf(response, 'content-range') ?? '')?.[1]
  return size === undefined ? undefined : Number(size)
}

function counting(session: EndpointSession, body: Body, announced: number): Body {
  const counted = count(session, body, announced)
  return { [Symbol.asyncIterator]: () => counted, discard: () => body.discard() }
}

async function* count(
  session: EndpointSession,
  body: Body,
  announced: number,
): AsyncGenerator<Uint8Array> {
  let received = 0
  for await (const chunk of body) {
    received += chunk.length
    if (received > announced) {
      throw wrongAnswer(
        session,
        'wrong-size',
        `sends more than the ${announced} bytes it announced`,
      )
    }
    yield chunk
  }
  if (received < announced) {
    throw wrongAnswer(session, 'cut', `sent ${received} of the ${announced} bytes it announced`)
  }
}

function emptyBody(): Body {
  return { [Symbol.asyncIterator]: async function* () {}, discard: () => undefined }
}

/**
 * Statuses with which hosts refuse HEAD for what they give by GET: public.ecr.aws 401, signed URLs
 * 403.
 */
const HEAD_REFUSED = [400, 401, 403, 405, 501]

/** Sends HEAD, or a GET for the first byte if HEAD is refused. Rejects as links do. */
export async function headBlob(
  session: EndpointSession,
  digest: Digest,
  signal: AbortSignal,
): Promise<BlobHead> {
  const request = { path: `blobs/${digest}`, kind: 'blob' } as const
  const head = ask(session, { ...request, method: 'HEAD' }, signal)
  const response = await head.catch((error: unknown) => {
    const isRefused = error instanceof UpstreamError && HEAD_REFUSED.includes(error.status ?? 0)
    if (!isRefused || error.reason === 'blocked') throw error
    return ask(session, { ...request, method: 'GET', range: 'bytes=0-0' }, signal)
  })
  response.body.discard()
  refusePages(session, digest, response)
  return {
    size: readSize(response, digest),
    grantedBy: response.grantedBy,
    endpoint: session.endpoint.key,
  }
}

/** Throws for a web page: a login page with 200 is not a blob and grants nothing. */
function refusePages(session: EndpointSession, digest: Digest, response: RegistryResponse): void {
  const isPage = bareType(headerOf(response, 'content-type')) === 'text/html'
  if (!isPage || headerOf(response, 'docker-content-digest') === digest) return
  const cure = 'check mirrors.<registry>.endpoint and its path, and proxies on the way'
  throw wrongAnswer(session, 'protocol', `sends a web page for blob ${digest}: ${cure}`)
}

function readSize(response: RegistryResponse, digest: Digest): number | undefined {
  if (response.status === 416) return sizeOf416(response)
  if (response.status === 206) return parseContentRange(headerOf(response, 'content-range'))?.size
  const length = lengthOf(response)
  const isEmpty = digest === digestOf(new Uint8Array(), algorithmOf(digest))
  // Some proxies say 0 when they do not know the length.
  return length === 0 && !isEmpty ? undefined : length
}
