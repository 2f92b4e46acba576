// Waits until the size of a blob is known, for clients without chunked bodies (HTTP/1.0). Without a length
// such a client takes a closed connection for the end, and a cut body for a complete one.
import type { Content } from '../cache/content.ts'
import { OciError } from '../oci/errors.ts'

/** nginx, which uses HTTP/1.0 unless configured otherwise, waits 60 s for a head. */
const PATIENCE_MS = 45_000

/**
 * Resolves when the size of the content is known, which is when all of it has arrived if no upstream
 * stated it. Throws OciError 503 after `patienceMs` (the download goes on), and whatever `wait` throws.
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
    const why = 'the size of this blob is not known until all of it has arrived'
    throw new OciError('UNAVAILABLE', `${why}: use HTTP/1.1, or try again later`, {
      status: 503,
      headers: { 'retry-after': '30' },
    })
  }
}
