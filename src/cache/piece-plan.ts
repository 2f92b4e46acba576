// Which bytes of a blob to ask an upstream for next. Pure: it knows what is here, what is on its
// way and who waits where; it asks nobody.
import type { Intervals } from '../http/intervals.ts'
import type { ByteRange } from '../http/range.ts'

/** A reader this far behind a request that is running gets the bytes from it; further ahead, its own. */
const NEAR_BYTES = 1024 * 1024

/** A request that is running. */
export interface Running {
  /** Its first byte that cannot be read yet. */
  readonly from: number
  /** The next byte it will get: those before may still be on their way to the disk. */
  readonly at: number
  /** Where it will stop. */
  readonly end: number
}

export interface PiecePlanOptions {
  readonly have: Intervals
  readonly pieceBytes: number
  readonly running: Iterable<Running>
  /** Of the whole blob; undefined until an upstream has said it. */
  readonly size: number | undefined
}

/** What is asked for first: where a reader waits and nobody is about to bring the bytes. */
export function urgentPiece(
  plan: PiecePlanOptions,
  wanted: readonly ByteRange[],
): ByteRange | undefined {
  const { have, size } = plan
  const requests = [...plan.running]
  for (const { start, end } of wanted) {
    const stop = Math.min(end, size ?? Infinity)
    const at = have.endFrom(start)
    if (at >= stop || isComing(requests, at)) continue
    return pieceFrom(at, stop, plan, requests)
  }
  return undefined
}

/** The first bytes of a range that are neither here nor on their way. */
export function missingPiece(
  plan: PiecePlanOptions,
  { start, end }: ByteRange,
): ByteRange | undefined {
  const requests = [...plan.running]
  const stop = Math.min(end, plan.size ?? Infinity)
  let at = start
  for (;;) {
    const next = skip(plan.have.endFrom(at), requests)
    if (next >= stop) return undefined
    if (next === at) return pieceFrom(at, stop, plan, requests)
    at = next
  }
}

/** Whether a request that runs is about to bring this byte. */
export function isComing(running: readonly Running[], wanted: number): boolean {
  return running.some(({ from, at, end }) => {
    return from <= wanted && wanted < end && wanted - at <= NEAR_BYTES
  })
}

function skip(at: number, running: readonly Running[]): number {
  return running.find((each) => each.from <= at && at < each.end)?.end ?? at
}

/** From `at` to the end of its piece, to what is here, or to what is on its way, whichever is first. */
function pieceFrom(
  at: number,
  end: number,
  { have, pieceBytes }: PiecePlanOptions,
  running: readonly Running[],
): ByteRange {
  let stop = Math.min(end, at + pieceBytes)
  stop = have.missing(at, stop)[0]?.end ?? stop
  for (const each of running) if (each.from > at) stop = Math.min(stop, each.from)
  return { start: at, end: stop }
}
