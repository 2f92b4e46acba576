// Which bytes of a blob to ask an upstream for next. Pure: it knows what is here, what is on its way and
// who waits where; it makes no requests.
import type { Intervals } from '../../http/intervals.ts'
import type { ByteRange } from '../../http/range.ts'

/** A reader this far behind a request that is running gets the bytes from it; further ahead, its own. */
const NEAR_BYTES = 1024 * 1024

/** A request that is running. */
export interface Running {
  /** Its first byte that cannot be read yet. */
  readonly pendingFrom: number
  /** The next byte it will get: those before may still be on their way to the disk. */
  readonly at: number
  /** Where it will stop. */
  readonly end: number
}

export interface PiecePlanOptions {
  readonly have: Intervals
  readonly pieceBytes: number
  readonly running: Iterable<Running>
  /** The size of the whole blob; undefined until an upstream has said it. */
  readonly size: number | undefined
}

/** Returns the piece to ask for first: where a reader waits and no request is about to bring the bytes. */
export function urgentPiece(
  plan: PiecePlanOptions,
  wanted: readonly ByteRange[],
): ByteRange | undefined {
  const { have, size, running } = plan
  for (const { start, end } of wanted) {
    const stop = Math.min(end, size ?? Infinity)
    const at = have.endFrom(start)
    if (at >= stop || isComing(running, at)) continue
    return pieceFrom(at, stop, plan)
  }
  return undefined
}

/** Returns the first bytes of a range that are neither here nor on their way. */
export function missingPiece(
  plan: PiecePlanOptions,
  { start, end }: ByteRange,
): ByteRange | undefined {
  const stop = Math.min(end, plan.size ?? Infinity)
  let at = start
  for (;;) {
    const next = skip(plan.have.endFrom(at), plan.running)
    if (next >= stop) return undefined
    if (next === at) return pieceFrom(at, stop, plan)
    at = next
  }
}

/** Reports whether a running request is about to bring this byte. */
export function isComing(running: Iterable<Running>, wanted: number): boolean {
  for (const { pendingFrom, at, end } of running) {
    if (pendingFrom <= wanted && wanted < end && wanted - at <= NEAR_BYTES) return true
  }
  return false
}

function skip(at: number, running: Iterable<Running>): number {
  for (const { pendingFrom, end } of running) if (pendingFrom <= at && at < end) return end
  return at
}

/** From `at` to the end of its piece, to what is here, or to what is on its way, whichever is first. */
function pieceFrom(
  at: number,
  end: number,
  { have, pieceBytes, running }: PiecePlanOptions,
): ByteRange {
  let stop = Math.min(end, at + pieceBytes, have.startFrom(at))
  for (const { pendingFrom } of running) if (pendingFrom > at) stop = Math.min(stop, pendingFrom)
  return { start: at, end: stop }
}
