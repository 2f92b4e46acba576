// Bytes that are not what their digest names: what is said of them, and whose they were.
import type { Digest } from '../../oci/digest.ts'
import { ContentError } from '../../store/ingest/content-error.ts'
import { UpstreamError } from '../../upstream/face/failure.ts'
import type { Attempt } from './attempt.ts'
import { FileLost } from './write-body.ts'

/** Why what came is not what the digest names; undefined where it is. `size`: of all of it, in bytes. Throws FileLost. */
export async function wrongIn(
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

/** Why the bytes of an attempt are of no use, as its readers' clients are told; `cause`: what hashing them showed. */
export function mismatchOf(attempt: Attempt, cause: ContentError): UpstreamError {
  const origins = [...new Set([...attempt.sources].map((source) => source.origin))]
  if (attempt.resumed) origins.push('an earlier download')
  const endpoint = origins.length === 1 && !attempt.resumed ? origins[0]! : 'several'
  const message = `${origins.join(', ')} brought bytes that are not ${attempt.digest}: nothing was kept`
  return new UpstreamError(cause.reason, message, { endpoint, cause })
}

/** What a reader is told that was given bytes of such an attempt, and cannot go on from a good one. */
export function corruptReadOf({ mismatch }: Attempt, digest: Digest): UpstreamError {
  const { endpoint = 'several', reason = 'wrong-digest' } = mismatch ?? {}
  const message = `bytes of ${digest} that were sent already proved to be corrupt`
  return new UpstreamError(reason, message, { endpoint })
}

/**
 * Of several who gave bytes, those lied whose bytes differ from the good ones: their endpoints. Of one
 * alone it was said before; of what passed through nothing is here any more.
 */
export async function liarsOf(bad: Attempt, good: Attempt): Promise<ReadonlySet<string>> {
  const liars = new Set<string>()
  if (bad.sources.size < 2 && !bad.resumed) return liars
  if (bad.window || good.window) return liars
  for (const { source, range } of bad.spans) {
    const isSame = await good.agrees(bad, range.start, range.end).catch(() => true)
    if (!isSame) liars.add(source.origin)
  }
  return liars
}
