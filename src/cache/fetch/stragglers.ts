// Requests that hold up the others: one at the front that is much slower than the rest is asked for again
// from where it is, so that no byte is fetched twice as by hedging; and what is asked for again and again
// without any progress is given up. Pure: time is an argument.
import type { Source } from '../../upstream/face/source.ts'

export interface TimedRequest {
  readonly source: Source
  /** Milliseconds, monotonic. */
  readonly startedAt: number
  /** Bytes so far. */
  readonly given: number
  readonly pendingFrom: number
  readonly at: number
  readonly end: number
}

/** How long a request has to show how fast it is, in milliseconds. */
const PROOF_MS = 1000
/** A request is slow below this part of the others' rate. */
const SLOW = 0.2
/** With fewer requests nobody can tell whether it is the link. */
const MIN_REQUESTS = 3

export interface SlowFront<Request> {
  readonly request: Request
  /** No other request asks that source: another endpoint may be better. If not, it is the connection. */
  readonly isAlone: boolean
}

/** Returns the request that is to bring the byte at `front`, if it is much slower than the others. */
export function slowFront<Request extends TimedRequest>(
  requests: Iterable<Request>,
  front: number,
  now: number,
): SlowFront<Request> | undefined {
  const all = [...requests]
  const request = all.find(({ pendingFrom, at, end }) => pendingFrom <= front && at < end)
  if (!request || all.length < MIN_REQUESTS || request.source.health === 'limited') return undefined
  const others = all.filter((each) => each !== request && each.given > 0)
  const rates = others.map((each) => rateOf(each, now)).toSorted((a, b) => a - b)
  const typical = rates[rates.length >> 1] ?? 0
  const isSlow = now - request.startedAt >= PROOF_MS && rateOf(request, now) < typical * SLOW
  if (!isSlow) return undefined
  return { request, isAlone: others.every(({ source }) => source !== request.source) }
}

/** In bytes per millisecond. */
function rateOf({ given, startedAt }: TimedRequest, now: number): number {
  return given / Math.max(1, now - startedAt)
}

/** The most requests for one place without any progress in between. */
export const MAX_VAIN_REQUESTS = 25

/**
 * Counts requests that bring nothing. Sources that fail are given up after a few tries anyhow
 * (source-queue.ts); this is for answers that are not a failure and still of no use, and for what nobody
 * has thought of: whatever is asked for without end, ends here.
 */
export class VainRequests {
  /** By the first byte that was asked for. */
  readonly #requests = new Map<number, number>()
  #progress: number | undefined

  /**
   * A request for what begins at `start` is over. `progress` is a number that changes whenever anything
   * came of a request. Returns whether it was the last that is worth making; counting then starts anew.
   */
  isLast(start: number, progress: number): boolean {
    if (progress !== this.#progress) this.#requests.clear()
    this.#progress = progress
    const count = (this.#requests.get(start) ?? 0) + 1
    this.#requests.set(start, count)
    if (count >= MAX_VAIN_REQUESTS) this.#requests.clear()
    return count >= MAX_VAIN_REQUESTS
  }

  /** A reader wants something else: it may be asked for again. */
  forget(): void {
    this.#requests.clear()
  }
}
