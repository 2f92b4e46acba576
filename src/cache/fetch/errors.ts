// What is wrong with a source's answer or with the bytes it gave, as an error that names the source.
import type { Digest } from '../../oci/digest.ts'
import { ContentError } from '../../store/ingest/content-error.ts'
import { UpstreamError } from '../../upstream/face/failure.ts'
import type { Source, SourceResponse } from '../../upstream/face/source.ts'
import type { Attempt } from './attempt.ts'
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

/** Why bytes are of no use, as the clients that wait for them are told; `cause` is what hashing them showed. */
export function mismatchError(
  { digest, sources, isResumed }: WrongBytes,
  cause: ContentError,
): UpstreamError {
  const origins = [...new Set([...sources].map((source) => source.origin))]
  if (isResumed) origins.push('an earlier download')
  const endpoint = origins.length === 1 && !isResumed ? origins[0]! : 'several'
  const message = `${origins.join(', ')} brought bytes that are not ${digest}: nothing was kept`
  return new UpstreamError(cause.reason, message, { endpoint, cause })
}

/** What a client is told that was sent such bytes, and cannot go on with good ones. */
export function corruptReadError(digest: Digest, mismatch?: UpstreamError): UpstreamError {
  const { endpoint = 'several', reason = 'wrong-digest' } = mismatch ?? {}
  const message = `bytes of ${digest} that were sent already proved to be corrupt`
  return new UpstreamError(reason, message, { endpoint })
}

/**
 * Returns the endpoints of several whose bytes differ from the good ones. Where one alone gave bytes, it
 * was named when they proved wrong.
 */
export async function corruptOrigins(bad: Attempt, good: Attempt): Promise<ReadonlySet<string>> {
  const corrupt = new Set<string>()
  if (bad.sources.size < 2 && !bad.isResumed) return corrupt
  for (const { source, range } of bad.spans) {
    const isSame = await good.agrees(bad, range.start, range.end).catch(() => true)
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
