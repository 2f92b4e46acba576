// For clients without chunked bodies (HTTP/1.0): a body without a length is over when its connection
// closes, so that one that was cut looks complete. They wait until the length is known.
import type { Content } from '../cache/content.ts'
import { OciError } from '../oci/errors.ts'

/** nginx, which asks by HTTP/1.0 unless told otherwise, waits 60 s for a head. */
const PATIENCE_MS = 45_000

/**
 * Resolves when the content's size is known: nobody said it, so when all of it is here. Throws OciError
 * 503 where that takes too long (what is on its way goes on), and what `wait` throws.
 */
export async function untilSized(
  content: Content,
  gone: AbortSignal,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const patience = AbortSignal.timeout(patienceMs)
  const signal = AbortSignal.any([gone, patience])
  try {
    for (let at = 0; content.size === undefined; at += content.available(at)) {
      await content.wait(at, signal)
    }
  } catch (error) {
    if (!patience.aborted || gone.aborted) throw error
    const why = 'nobody has said how long this blob is, and not all of it is here yet'
    throw new OciError('UNAVAILABLE', `${why}: ask by HTTP/1.1, or again later`, {
      status: 503,
      headers: { 'retry-after': '30' },
    })
  }
}
