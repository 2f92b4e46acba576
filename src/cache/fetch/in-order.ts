// Fetches a stretch of a blob in order, over one connection, from whichever sources have it: what breaks
// is asked for again from where it broke, there or elsewhere. It neither hashes nor keeps what comes.
import { setTimeout as sleep } from 'node:timers/promises'
import type { ByteRange } from '../../http/range.ts'
import type { Digest } from '../../oci/digest.ts'
import { leastFinal, type UpstreamError } from '../../upstream/face/failure.ts'
import type { Source, SourceResponse } from '../../upstream/face/source.ts'
import { asUpstreamError, endedAt, isDoubtful, refusalOf, sourceFault } from './errors.ts'
import type { SizeClaims } from './size-claims.ts'
import type { SourceQueue } from './source-queue.ts'
import { TooLong } from './write-body.ts'

/** Who fetches. */
export interface InOrderFetch {
  readonly digest: Digest
  readonly queue: SourceQueue
  /** The size of the blob in bytes; undefined until an upstream has announced it. */
  readonly size: number | undefined
  /** What manifests claim about it. */
  readonly claims: SizeClaims
  /** A source answers; `size` is what it says of the whole blob. */
  opened(source: Source, size: number | undefined): void
  /** A body without any announced length ended: that is the size of the blob. */
  ended(size: number): void
  /** A request failed; the fetch may go on elsewhere. */
  failed(error: UpstreamError): void
  /** Milliseconds, monotonic. */
  now(): number
}

/**
 * Yields the bytes from `start` up to `end`, or up to the end of the blob.
 * Throws the least final failure when no source is left, or the reason of the signal.
 */
export async function* fetchInOrder(
  fetch: InOrderFetch,
  { start, end }: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let at = start
  for (;;) {
    const stop = Math.min(end, fetch.size ?? Infinity)
    if (at >= stop) return
    const source = await nextSource(fetch, at > 0, signal)
    const [from, startedAt] = [at, fetch.now()]
    try {
      const response = await ask(fetch, source, { start: at, end: stop }, signal)
      if (response === undefined) continue
      for await (const chunk of bodyFrom(response, at, fetch)) {
        const bytes = chunk.subarray(0, stop - at)
        at += bytes.length
        yield bytes
        if (at >= stop) break
      }
      const last = Math.min(stop, response.end ?? Infinity, fetch.size ?? Infinity)
      if (last === Infinity && fetch.claims.mayEndAt(at)) fetch.ended(at)
      else checkEnd(source, { from, at, end: last })
      fetch.queue.succeeded(source)
    } catch (error) {
      signal.throwIfAborted()
      const told = asUpstreamError(error, source)
      if (told === undefined) throw error // ours: the next source would meet it as well
      fetch.failed(told)
      fetch.queue.failed({ source, startedAt, given: at - from }, told, at > 0, fetch.now())
    }
  }
}

/** Waits for a source that may be asked; `ranged`: one that honours Range, if there is any. */
async function nextSource(
  fetch: InOrderFetch,
  ranged: boolean,
  signal: AbortSignal,
): Promise<Source> {
  const { queue } = fetch
  for (;;) {
    signal.throwIfAborted()
    const now = fetch.now()
    const source = queue.next(now, { ranged }) ?? queue.next(now)
    if (source) return source
    const waitMs = queue.msUntilNext(now)
    if (waitMs === undefined) throw leastFinal(queue.errors)
    await sleep(waitMs, undefined, { signal })
  }
}

/** Returns undefined if other sources are to be asked before what this one answers is believed. */
async function ask(
  fetch: InOrderFetch,
  source: Source,
  { start, end }: ByteRange,
  signal: AbortSignal,
): Promise<SourceResponse | undefined> {
  const isToTheEnd = end === (fetch.size ?? Infinity)
  const range = isToTheEnd || end === Infinity ? { start } : { start, end }
  const response = await source.fetch(fetch.digest, range, signal)
  const refusal = refusalOf(source, response, { at: start, size: fetch.size })
  if (refusal || signal.aborted) {
    response.body.discard() // or its connection would wait for a reader for ever
    throw refusal ?? signal.reason
  }
  if (fetch.size === undefined && isDoubtful(source, response, fetch)) {
    response.body.discard()
    return undefined
  }
  if (!response.ranged && start > 0) fetch.queue.ignoresRange(source)
  fetch.queue.responded(source)
  fetch.opened(source, response.size)
  if (fetch.size !== undefined) fetch.queue.believed(fetch.size)
  return response
}

/** Yields the body from byte `at` of the blob on. Throws UpstreamError where the blob would be too long. */
async function* bodyFrom(
  { body, start }: SourceResponse,
  at: number,
  fetch: InOrderFetch,
): AsyncGenerator<Uint8Array> {
  let position = start
  for await (const chunk of body) {
    const skipped = Math.min(chunk.length, Math.max(0, at - position))
    position += chunk.length
    if (position > (fetch.size ?? Infinity)) {
      throw new TooLong(`more than the ${fetch.size} bytes announced`)
    }
    if (skipped < chunk.length) yield chunk.subarray(skipped)
  }
}

// An answer may be for less than was asked for; one that brings nothing would be asked for for ever.
function checkEnd(
  source: Source,
  { from, at, end }: { from: number; at: number; end: number },
): void {
  if (at < end) throw sourceFault(source, 'cut', endedAt(at, end))
  if (at === from) throw sourceFault(source, 'cut', `brought nothing from byte ${at} on`)
}
