// Readers of a blob that passes through who are elsewhere than the others: a few of them at once have a
// stretch of their own, for so much at a time, the longest waiting first.
import type { ByteRange } from '../../http/range.ts'

/** So many readers at once, for so much at a time. */
export const MOST_GRANTS = 4
export const GRANT_BYTES = 2 * 1024 * 1024
/** What is written may go past the top of a grant that moves on by one batch, and none of it may get lost. */
const OVERSHOOT_BYTES = 1.25 * 1024 * 1024

/** What one reader needs next: from `at` to `end`. */
export interface Claim {
  readonly reader: object
  readonly at: number
  readonly end: number
}

export interface GrantConditions {
  /** Who has stopped gets nothing more, and gives what it has to who waits. */
  readonly going: ReadonlySet<object>
  /** Whether a part can be asked for; if not, a grant goes to the end. */
  readonly ranged: boolean
  readonly most: number
}

interface Grant extends ByteRange {
  /** Where its reader is. */
  at: number
  /** Its request cannot be made again from there. */
  readonly isLong: boolean
}

/** What of a grant is to be in memory. */
export interface GrantZone extends ByteRange {
  /** Nothing is written that begins at or past this offset. */
  readonly top: number
  readonly isLong: boolean
}

export class WindowGrants {
  readonly #grants = new Map<object, Grant>()
  /** Who waits for one, the longest first. */
  readonly #queue = new Set<object>()

  /** What is to be fetched. */
  get wanted(): readonly ByteRange[] {
    return [...this.#grants.values()].map(({ at, end }) => ({ start: at, end }))
  }

  get zones(): readonly GrantZone[] {
    return [...this.#grants.values()].map(zoneOf)
  }

  clear(): void {
    this.#grants.clear()
    this.#queue.clear()
  }

  /** Readers that are elsewhere moved, came or left. */
  arrange(claims: readonly Claim[], conditions: GrantConditions): void {
    const { going, most, ranged } = conditions
    const all = new Map(claims.map((claim) => [claim.reader, claim]))
    this.#take(all, conditions)
    for (const reader of this.#queue) if (!all.has(reader)) this.#queue.delete(reader)
    for (const reader of all.keys()) {
      if (!going.has(reader) || this.#grants.has(reader)) this.#queue.delete(reader)
      else this.#queue.add(reader)
    }
    for (const reader of this.#queue) {
      const claim = all.get(reader)!
      if (this.zones.some((zone) => isIn(zone, claim.at))) continue // somebody else's brings it
      if (this.#grants.size >= most && !this.#revokeStopped(going)) return
      this.#queue.delete(reader)
      this.#grants.set(reader, grantOf(claim, ranged))
    }
  }

  // Who left it, or got to its end, needs it no more. Where there are to be fewer, the last are taken
  // back that can be made again.
  #take(claims: ReadonlyMap<object, Claim>, { most, ranged }: GrantConditions): void {
    for (const [reader, grant] of this.#grants) {
      const at = claims.get(reader)?.at
      if (at === undefined || !isIn(grant, at)) this.#grants.delete(reader)
      else grant.at = at
    }
    const excess = ranged ? [...this.#grants.keys()].slice(Math.max(0, most)) : []
    for (const reader of excess) this.#grants.delete(reader)
  }

  #revokeStopped(going: ReadonlySet<object>): boolean {
    const stopped = [...this.#grants.keys()].find((reader) => !going.has(reader))
    return stopped !== undefined && this.#grants.delete(stopped)
  }
}

function grantOf({ at, end }: Claim, ranged: boolean): Grant {
  const upTo = ranged ? Math.min(end, at + GRANT_BYTES) : end
  return { start: at, end: upTo, at, isLong: !ranged }
}

// A long one moves on with its reader.
function zoneOf({ start, end, at, isLong }: Grant): GrantZone {
  if (!isLong) return { start, end, top: end, isLong }
  const upTo = Math.min(end, at + GRANT_BYTES)
  return { start: at, end: upTo, top: upTo < end ? upTo - OVERSHOOT_BYTES : upTo, isLong }
}

function isIn({ start, end }: ByteRange, at: number): boolean {
  return start <= at && at < end
}
