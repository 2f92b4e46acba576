// Which stretches of a blob are kept in memory while it passes through, and what is fetched next: one
// zone where most readers are, and a few small ones for those who are elsewhere. It holds no bytes.
import type { ByteRange } from '../http/range.ts'

const MIB = 1024 * 1024
/** What is compared at once, when it is fetched again. */
export const BLOCK_BYTES = 256 * 1024
/** What the main zone takes, and where memory is short. */
export const MAIN_BYTES = 16 * MIB
export const LEAST_MAIN_BYTES = 4 * MIB
/** What is written may go past the top of the zone by one batch. */
const OVERSHOOT_BYTES = 2 * MIB
/** How far behind the first reader others are still fed by the same requests: so much of the zone. */
const BEHIND = 3 / 8
/** Readers that are elsewhere: so many at once have a request of their own, for so much at a time. */
export const MOST_GRANTS = 4
export const GRANT_BYTES = 2 * MIB
/** Who holds a grant and takes nothing for so long gives it to who waits. */
const IDLE_GRANT_MS = 5000
/** A request this far past the top would wait too long: it ends, and is made again. */
const PATIENCE_BYTES = 32 * MIB

/** What one reader needs next, of what is not held elsewhere. */
export interface Need {
  /** Who it is. */
  readonly reader: object
  readonly at: number
  readonly end: number
  /** It reads everything from 0: what it is given must be hashed. */
  readonly whole: boolean
  /** It stands at `at` already: before that nothing is held for it. */
  readonly here: boolean
}

export interface ZoneConditions {
  /** Whether a part can be asked for; if not, nobody who is fed with others may be left behind. */
  readonly ranged: boolean
  /** How many readers that are elsewhere may have requests of their own at once. */
  readonly mostGrants: number
  /** All before this offset is hashed. */
  readonly hashed: number
  /** Who reads a part is given nothing before all of it is hashed. */
  readonly withheld: boolean
  /** What all zones together may take now, unless it is too little for the least. */
  readonly shareBytes: number
  /** Milliseconds. */
  readonly now: number
}

export type Admission = 'yes' | 'wait' | 'no'

interface Grant extends ByteRange {
  /** Where its reader is, and since when. */
  at: number
  since: number
  /** It goes to the end, as its request cannot be made again from there. */
  readonly isLong: boolean
}

export class WindowZones {
  readonly #grants = new Map<object, Grant>()
  /** Who waits for a grant, the longest first. */
  readonly #queue = new Set<object>()
  #low = 0
  #mainBytes = MAIN_BYTES
  #leader: object | undefined
  #rest: ByteRange | undefined

  /** The main zone's first offset; what is before may be dropped. */
  get low(): number {
    return this.#low
  }

  /** No request begins, and none goes on, at or past this offset of the main zone. */
  get top(): number {
    return this.#low + this.roomBytes
  }

  /** What the main zone holds without one reader having gone on. */
  get roomBytes(): number {
    return this.#mainBytes - OVERSHOOT_BYTES
  }

  /** What the readers of the main zone will read: from the slowest of them on. */
  get rest(): ByteRange | undefined {
    return this.#rest
  }

  /** What readers need that are not in the main zone: those whose turn it is. */
  get apart(): readonly ByteRange[] {
    return [...this.#grants.values()].map(({ at, end }) => ({ start: at, end }))
  }

  /** Whether something of [start, end) is to be kept when it comes. */
  keeps(start: number, end: number): boolean {
    if (start < this.#low + this.#mainBytes && end + BLOCK_BYTES > this.#low) return true
    return [...this.#grants.values()].map(zoneOf).some((zone) => {
      return start < zone.end + BLOCK_BYTES && zone.start < end + BLOCK_BYTES
    })
  }

  /**
   * Whether what comes at `at` may be written; `no`: nobody waits for it or will soon. `apart`: for
   * readers that are elsewhere.
   */
  admits(at: number, apart: boolean): Admission {
    if (!apart) return admits({ start: this.#low, end: this.top }, at, PATIENCE_BYTES)
    const answers = [...this.#grants.values()].map((grant) => {
      return admits(zoneOf(grant), at, grant.isLong ? GRANT_BYTES : 0)
    })
    return answers.find((each) => each === 'yes') ?? answers.find((each) => each === 'wait') ?? 'no'
  }

  /** Readers moved, came or left. */
  arrange(everybody: readonly Need[], conditions: ZoneConditions): void {
    const { withheld, shareBytes } = conditions
    const { mainBytes, mostGrants } = sharedOut(shareBytes)
    this.#mainBytes = mainBytes
    const needs = withheld ? everybody.filter(({ whole }) => whole) : everybody
    if (withheld && needs.length === 0) return this.#hashAlone(conditions.hashed)
    if (needs.length === 0) {
      this.#rest = undefined
      this.#grants.clear()
      this.#queue.clear()
      return
    }
    if (conditions.ranged) this.#lead(needs, conditions.hashed)
    else this.#carry(needs, conditions.hashed)
    const together = needs.filter(({ at }) => this.#isInMain(at))
    this.#rest = hullOf(together)
    const apart = needs.filter(({ at, here }) => here && !this.#isInMain(at))
    this.#grant(apart, { ...conditions, mostGrants: Math.min(mostGrants, conditions.mostGrants) })
  }

  #isInMain(at: number): boolean {
    return isIn({ start: this.#low, end: this.top }, at)
  }

  // Those who wait for the verdict need all of it to be fetched, and none of it to be kept.
  #hashAlone(hashed: number): void {
    this.#low = hashed
    this.#rest = { start: hashed, end: Infinity }
    this.#grants.clear()
  }

  // The first reader sets the pace; who is too far behind goes on by grants.
  #lead(needs: readonly Need[], hashed: number): void {
    const leader = this.#chooseLeader(needs)
    this.#leader = leader.reader
    const behind = this.#mainBytes * BEHIND
    const near = needs.map(({ at }) => at).filter((at) => at >= leader.at - behind)
    const low = Math.min(...near)
    // What was given must not be dropped before it is hashed.
    this.#low = leader.whole ? Math.min(low, hashed) : low
  }

  #chooseLeader(needs: readonly Need[]): Need {
    const whole = needs.filter((need) => need.whole)
    if (whole.length > 0) return foremost(whole)
    const last = needs.find(({ reader }) => reader === this.#leader) ?? needs[0]!
    return foremost(
      needs.filter(({ at }) => at >= last.at && at < last.at + this.#mainBytes * BEHIND),
    )
  }

  // The slowest sets the pace. Who came too late waits for the next time round.
  #carry(needs: readonly Need[], hashed: number): void {
    const reachable = needs.filter(({ at }) => at >= this.#low && at <= this.top)
    const carried = reachable.length > 0 ? reachable : needs
    const low = Math.min(...carried.map(({ at }) => at))
    this.#low = carried.some(({ whole }) => whole) ? Math.min(low, hashed) : low
  }

  #grant(apart: readonly Need[], { ranged, mostGrants, now }: ZoneConditions): void {
    const needs = new Map(apart.map((need) => [need.reader, need]))
    for (const [reader, grant] of this.#grants) {
      if (!this.#isOfUse(grant, needs.get(reader), now)) this.#grants.delete(reader)
    }
    for (const reader of this.#queue) if (!needs.has(reader)) this.#queue.delete(reader)
    for (const reader of needs.keys()) if (!this.#grants.has(reader)) this.#queue.add(reader)
    for (const reader of this.#queue) {
      const { at, end } = needs.get(reader)!
      const isComing = [...this.#grants.values()].map(zoneOf).some((zone) => isIn(zone, at))
      if (isComing) continue
      if (this.#grants.size >= mostGrants && !this.#revokeIdle(now)) return
      this.#queue.delete(reader)
      const upTo = ranged ? Math.min(end, at + GRANT_BYTES) : end
      this.#grants.set(reader, { start: at, end: upTo, at, since: now, isLong: !ranged })
    }
  }

  #isOfUse(grant: Grant, need: Need | undefined, now: number): boolean {
    if (need === undefined || need.at < grant.start || need.at >= grant.end) return false
    if (need.at !== grant.at) grant.since = now
    grant.at = need.at
    return true
  }

  #revokeIdle(now: number): boolean {
    for (const [reader, { since, isLong }] of this.#grants) {
      if (isLong || now - since < IDLE_GRANT_MS) continue
      this.#grants.delete(reader)
      return true
    }
    return false
  }
}

/** A third of it is for readers that are elsewhere, as far as that goes. */
function sharedOut(bytes: number): { mainBytes: number; mostGrants: number } {
  const mainBytes = Math.min(MAIN_BYTES, Math.max(LEAST_MAIN_BYTES, (bytes * 2) / 3))
  const left = Math.floor((bytes - mainBytes) / (GRANT_BYTES + BLOCK_BYTES))
  return { mainBytes, mostGrants: Math.min(MOST_GRANTS, Math.max(1, left)) }
}

/** Of nobody, while what they read of the file is still being hashed: nothing. */
function hullOf(needs: readonly Need[]): ByteRange | undefined {
  if (needs.length === 0) return undefined
  const start = Math.min(...needs.map(({ at }) => at))
  return { start, end: Math.max(...needs.map(({ end }) => end)) }
}

/** What of it is to be in memory: a long one moves on with its reader. */
function zoneOf({ start, end, at, isLong }: Grant): ByteRange {
  return isLong ? { start: at, end: Math.min(end, at + GRANT_BYTES) } : { start, end }
}

function isIn({ start, end }: ByteRange, at: number): boolean {
  return start <= at && at < end
}

// Requests begin and end with blocks, so they may be as much wider.
function admits(zone: ByteRange, at: number, patienceBytes: number): Admission {
  if (isIn({ start: zone.start - BLOCK_BYTES, end: zone.end + BLOCK_BYTES }, at)) return 'yes'
  return at >= zone.end && at < zone.end + patienceBytes ? 'wait' : 'no'
}

function foremost(needs: readonly Need[]): Need {
  return needs.reduce((first, need) => (need.at > first.at ? need : first))
}
