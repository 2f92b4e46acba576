// What is wrong with a source's answer or with the bytes it gave, as an error that names the source.
import type { Digest } from '../../oci/digest.ts'
import { ContentError } from '../../store/ingest/content-error.ts'
import { UpstreamError } from '../../upstream/face/failure.ts'
import type { Source, SourceResponse } from '../../upstream/face/source.ts'
import type { Attempt } from './attempt.ts'
import type { SizeClaims } from './size-claims.ts'
import type { SourceQueue } from './source-queue.ts'
import { FileLost, TooLong } from './write-body.ts'

/** Bytes that are not what their digest names, and where they came from. */
export interface WrongBytes {
  readonly digest: Digest
  /** Who gave them. */
  readonly sources: ReadonlySet<Source>
  /** An earlier download left some of them. */
  readonly isResumed: boolean
}

/**
 * Returns why an attempt is not what the digest names, or undefined where it is. `size` is that of the
 * whole blob, in bytes. Throws FileLost.
 */
export async function verificationError(
  attempt: Attempt,
  size: number | undefined,
): Promise<ContentError | undefined> {
  try {
    await attempt.verify(size)
    return undefined
  } catch (cause) {
    if (cause instanceof ContentError) return cause
    throw new FileLost('what was written cannot be read again', { cause })
  }
}

/**
 * Why bytes are of no use, as the clients that wait for them are told; `cause` is what hashing them
 * showed. `reason` says more than the digest does if the size was in doubt before.
 */
export function mismatchError(
  { digest, sources, isResumed }: WrongBytes,
  cause: ContentError,
  reason = cause.reason,
): UpstreamError {
  const origins = [...new Set([...sources].map((source) => source.origin))]
  if (isResumed) origins.push('an earlier download')
  const endpoint = origins.length === 1 && !isResumed ? origins[0]! : 'several'
  const message = `${origins.join(', ')} brought bytes that are not ${digest}: nothing was kept`
  return new UpstreamError(reason, message, { endpoint, cause })
}

/** What a client is told that was sent such bytes, and cannot go on with good ones. */
export function corruptReadError(digest: Digest, mismatch?: UpstreamError): UpstreamError {
  const { endpoint = 'several', reason = 'wrong-digest' } = mismatch ?? {}
  const message = `bytes of ${digest} that were sent already proved to be corrupt`
  return new UpstreamError(reason, message, { endpoint })
}

/** What a client is told if the head of its response announced a size that only its manifest claims. */
export function wrongPromiseError(digest: Digest, promised: number | undefined): UpstreamError {
  const message = `${digest} does not have the ${promised} bytes that its manifest says and that the response announced`
  return new UpstreamError('wrong-size', message, { endpoint: 'several' })
}

/**
 * Returns the endpoints whose bytes differ from the good ones, unless one was named when the bytes
 * proved wrong.
 */
export async function corruptOrigins(bad: Attempt, good: Attempt): Promise<ReadonlySet<string>> {
  const corrupt = new Set<string>()
  if (bad.isSourceNamed) return corrupt
  for (const { source, range } of bad.spans) {
    // Bytes behind the end of the blob are no sign of corruption: a claim may have asked for them.
    const end = Math.min(range.end, good.contiguousEnd)
    const isSame = await good.agrees(bad, range.start, end).catch(() => true)
    if (!isSame) corrupt.add(source.origin)
  }
  return corrupt
}

/** Returns why the answer to a request from byte `at` on, of a blob of `size` bytes, is refused, if it is. */
export function refusalOf(
  source: Source,
  response: SourceResponse,
  { at, size }: { readonly at: number; readonly size: number | undefined },
): UpstreamError | undefined {
  const { start } = response
  if (start > at) return sourceFault(source, 'protocol', `answered from byte ${start}, not ${at}`)
  if (response.size === undefined || size === undefined || response.size === size) return undefined
  const what = `says ${response.size} bytes where ${size} are expected`
  return sourceFault(source, 'wrong-size', what)
}

/**
 * Reports whether other sources are to be asked before an answer that announces a size that every
 * manifest contradicts. Either the source is wrong or the manifests are: if no other source is left, or
 * all of them announce the same, only the digest can tell.
 */
export function isDoubtful(
  source: Source,
  { size }: SourceResponse,
  { claims, queue }: { readonly claims: SizeClaims; readonly queue: SourceQueue },
): boolean {
  if (size === undefined || !claims.contradict(size)) return false
  const claimed = claims.expected === undefined ? 'another number' : claims.expected
  const error = sourceFault(
    source,
    'wrong-size',
    `says ${size} bytes where a manifest says ${claimed}`,
  )
  return queue.doubt(source, { size, error })
}

/** What a source did whose body ended at byte `at` instead of `end`, which is Infinity if it is unknown. */
export function endedAt(at: number, end: number): string {
  const place = end === Infinity ? ', where no manifest says that the blob ends' : ` of ${end}`
  return `ended at byte ${at}${place}`
}

/** `what` is what the source did, to follow its name. */
export function sourceFault(
  source: Source,
  reason: 'protocol' | 'wrong-size' | 'wrong-digest' | 'cut',
  what: string,
): UpstreamError {
  return new UpstreamError(reason, `${source.origin} ${what}`, { endpoint: source.origin })
}

/**
 * Returns what the source did, of whatever was thrown while it was asked and read. Returns undefined
 * for an error that is Chandlery's own.
 */
export function asUpstreamError(error: unknown, source: Source): UpstreamError | undefined {
  if (error instanceof UpstreamError) return error
  if (error instanceof TooLong) return sourceFault(source, 'wrong-size', `sent ${error.message}`)
  return undefined
}
