// The front is what readers wait for: a request for it that is much slower than the others is asked
// for again from where it is. So no byte is fetched twice, as by hedging. Pure: time is an argument.
import type { Source } from '../../upstream/face/source.ts'

export interface TimedRequest {
  readonly source: Source
  /** Milliseconds, monotonic. */
  readonly startedAt: number
  /** Bytes so far. */
  readonly given: number
  readonly from: number
  readonly at: number
  readonly end: number
}

/** It needs so long to show how slow it is, in milliseconds. */
const PROOF_MS = 1000
/** It crawls when it is this much slower than the others. */
const CRAWLS = 0.2
/** With fewer requests nobody can tell whether it is the link. */
const LEAST_REQUESTS = 3

export interface CrawlingFront<Request> {
  readonly request: Request
  /** No other request asks there: another endpoint may be better. If not, it is the connection. */
  readonly isAlone: boolean
}

/** Of these requests, the one that is to bring the byte at `front`, if it crawls. */
export function crawlingFront<Request extends TimedRequest>(
  requests: Iterable<Request>,
  front: number,
  now: number,
): CrawlingFront<Request> | undefined {
  const all = [...requests]
  const request = all.find(({ from, at, end }) => from <= front && at < end)
  if (!request || all.length < LEAST_REQUESTS || request.source.health === 'limited')
    return undefined
  const others = all.filter((each) => each !== request && each.given > 0)
  const rates = others.map((each) => rateOf(each, now)).toSorted((a, b) => a - b)
  const typical = rates[rates.length >> 1] ?? 0
  const crawls = now - request.startedAt >= PROOF_MS && rateOf(request, now) < typical * CRAWLS
  if (!crawls) return undefined
  return { request, isAlone: others.every(({ source }) => source !== request.source) }
}

/** In bytes per millisecond. */
function rateOf({ given, startedAt }: TimedRequest, now: number): number {
  return given / Math.max(1, now - startedAt)
}
