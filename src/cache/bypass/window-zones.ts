// Which stretches of a blob are kept in memory while it passes through, and what is fetched next: one
// zone where most readers are, and a few small ones for those who are elsewhere. It holds no bytes.
import type { ByteRange } from '../../http/range.ts'
import { ReaderPace } from './reader-pace.ts'
import { BLOCK_BYTES } from './window-blocks.ts'
import { GRANT_BYTES, MOST_GRANTS, WindowGrants } from './window-grants.ts'

const MIB = 1024 * 1024
/** What the main zone takes, and where memory is short. */
export const MAIN_BYTES = 16 * MIB
export const LEAST_MAIN_BYTES = 4 * MIB
/** What is written may go past the top of the zone by one batch. */
const OVERSHOOT_BYTES = 2 * MIB
/** Blocks that lie across the edges of a zone are kept, too. */
const MAIN_EDGE_BYTES = 2 * BLOCK_BYTES
const GRANT_EDGE_BYTES = 3 * BLOCK_BYTES
/** The least memory that brings every reader forward, and the most that is of use. */
export const LEAST_BYTES = LEAST_MAIN_BYTES + MAIN_EDGE_BYTES + GRANT_BYTES + GRANT_EDGE_BYTES
export const MOST_BYTES =
  MAIN_BYTES + MAIN_EDGE_BYTES + MOST_GRANTS * (GRANT_BYTES + GRANT_EDGE_BYTES)
/** How far behind the first reader others are still fed by the same requests: so much of the zone. */
const BEHIND = 3 / 8
/** Who takes nothing for so long is left behind, in milliseconds. */
const PATIENCE_MS = 5000
/** The same where going on later means to ask for everything once more. */
const LONG_PATIENCE_MS = 30_000
/** A request this far past the top would wait too long: it ends, and is made again. */
const PATIENCE_BYTES = 32 * MIB

/** What one reader needs next, of what is not held elsewhere. */
export interface Need {
  /** Who it is. */
  readonly reader: object
  readonly at: number
  readonly end: number
  /** What it reads next, wherever that is. */
  readonly position: number
  /** It waits for that. */
  readonly waits: boolean
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
  /**
   * How many bytes all zones together may take now, at least LEAST_BYTES; 0: none at all. `isIdle`: no reader
   * goes on.
   */
  readonly memory: (isIdle: boolean) => number
  /** Milliseconds. */
  readonly now: number
}

export type Admission = 'yes' | 'wait' | 'no'

export class WindowZones {
  readonly #pace = new ReaderPace()
  readonly #grants = new WindowGrants()
  #low = 0
  #mainBytes = LEAST_MAIN_BYTES
  /** Where the main zone ends. */
  #end = LEAST_MAIN_BYTES
  #leader: object | undefined
  #rest: ByteRange | undefined
  /** There is memory for them. */
  #isOpen = false

  /** The main zone's first offset; what is before may be dropped. */
  get low(): number {
    return this.#low
  }

  /** No request begins, and none goes on, at or past this offset of the main zone. */
  get top(): number {
    return this.#low + this.roomBytes
  }

  /** What the main zone takes before its readers have gone on. */
  get roomBytes(): number {
    return this.#isOpen ? this.#mainBytes - OVERSHOOT_BYTES : 0
  }

  /** The most that can be kept before the next `arrange`, in bytes of whole blocks. */
  get mostBytes(): number {
    if (!this.#isOpen) return 0
    const grants = this.#grants.zones.map(({ start, end }) => end - start + GRANT_EDGE_BYTES)
    const main = this.#end - this.#low + MAIN_EDGE_BYTES
    return [main, ...grants].reduce((sum, bytes) => sum + inBlocks(bytes), 0)
  }

  /** What the readers of the main zone will read: from the slowest of them on. */
  get rest(): ByteRange | undefined {
    return this.#rest
  }

  /** What readers need that are not in the main zone: those whose turn it is. */
  get apart(): readonly ByteRange[] {
    return this.#grants.wanted
  }

  /** Whether something of [start, end) is to be kept when it comes. */
  keeps(start: number, end: number): boolean {
    if (!this.#isOpen) return false
    if (start < this.#end && end + BLOCK_BYTES > this.#low) return true
    return this.#grants.zones.some((zone) => {
      return start < zone.end + BLOCK_BYTES && zone.start < end + BLOCK_BYTES
    })
  }

  /**
   * Whether what comes at `at` may be written; `no`: nobody waits for it or will soon. `apart`: for
   * readers that are elsewhere.
   */
  admits(at: number, apart: boolean): Admission {
    if (!this.#isOpen) return 'no'
    if (!apart) return admits({ start: this.#low, top: this.top }, at, this.top + PATIENCE_BYTES)
    const answers = this.#grants.zones.map((zone) => {
      return admits(zone, at, zone.end + (zone.isLong ? GRANT_BYTES : 0))
    })
    return answers.find((each) => each === 'yes') ?? answers.find((each) => each === 'wait') ?? 'no'
  }

  /** Readers moved, came or left. */
  arrange(everybody: readonly Need[], conditions: ZoneConditions): void {
    const { withheld, hashed, ranged, now } = conditions
    const needs = withheld ? everybody.filter(({ whole }) => whole) : everybody
    const going = this.#pace.going(needs, now, ranged ? PATIENCE_MS : LONG_PATIENCE_MS)
    const isIdle = needs.length === 0 ? !withheld : going.length === 0
    const bytes = conditions.memory(isIdle)
    if (bytes === 0) return this.close()
    this.#isOpen = true
    const { mainBytes, mostGrants } = sharedOut(bytes)
    this.#mainBytes = mainBytes
    if (needs.length === 0) {
      this.#rest = undefined
      this.#grants.clear()
      if (withheld) this.#hashAlone(hashed)
      return
    }
    // Where all have stopped they are as good as each other.
    const paced = going.length > 0 ? going : needs
    const low = ranged ? this.#lead(paced) : this.#carry(paced)
    // Who reads the whole is given what is hashed: what is not yet is needed all the same.
    this.#place(paced.some(({ whole }) => whole) ? Math.min(low, hashed) : low, ranged)
    this.#rest = hullOf(needs.filter(({ at }) => this.#isInMain(at)))
    const apart = needs.filter(({ at, here }) => here && !this.#isInMain(at))
    const most = Math.min(mostGrants, conditions.mostGrants)
    this.#grants.arrange(apart, { going: new Set(going.map(readerOf)), ranged, most })
  }

  /** Nothing is kept and nothing is fetched before the next `arrange`. */
  close(): void {
    this.#isOpen = false
    this.#rest = undefined
    this.#grants.clear()
  }

  // Where memory gets short, what can be asked for again is dropped; what cannot goes as it is read.
  #place(low: number, ranged: boolean): void {
    const mayDrop = ranged || low < this.#low
    this.#low = low
    this.#end = Math.max(low + this.#mainBytes, mayDrop ? 0 : Math.min(this.#end, low + MAIN_BYTES))
  }

  #isInMain(at: number): boolean {
    return isIn({ start: this.#low, end: this.top }, at)
  }

  // Those who wait for the verdict need all of it to be fetched, and none of it to be kept.
  #hashAlone(hashed: number): void {
    this.#place(hashed, true)
    this.#rest = { start: hashed, end: Infinity }
  }

  // The first reader sets the pace; who is too far behind goes on by grants.
  #lead(needs: readonly Need[]): number {
    const leader = this.#chooseLeader(needs)
    this.#leader = leader.reader
    const behind = this.#mainBytes * BEHIND
    return Math.min(...needs.map(({ at }) => at).filter((at) => at >= leader.at - behind))
  }

  #chooseLeader(needs: readonly Need[]): Need {
    const whole = needs.filter((need) => need.whole)
    if (whole.length > 0) return foremost(whole)
    const last = needs.find(({ reader }) => reader === this.#leader) ?? needs[0]!
    const behind = this.#mainBytes * BEHIND
    return foremost(needs.filter(({ at }) => at >= last.at && at < last.at + behind))
  }

  // The slowest sets the pace. Who came too late waits for the next time round.
  #carry(needs: readonly Need[]): number {
    const reachable = needs.filter(({ at }) => at >= this.#low && at <= this.top)
    const carried = reachable.length > 0 ? reachable : needs
    return Math.min(...carried.map(({ at }) => at))
  }
}

/** A third of it is for readers that are elsewhere, and at least one grant. */
function sharedOut(bytes: number): { mainBytes: number; mostGrants: number } {
  const grant = GRANT_BYTES + GRANT_EDGE_BYTES
  const most = Math.min((bytes * 2) / 3, bytes - grant) - MAIN_EDGE_BYTES
  const blocks = Math.floor(most / BLOCK_BYTES)
  const mainBytes = Math.min(MAIN_BYTES, Math.max(LEAST_MAIN_BYTES, blocks * BLOCK_BYTES))
  const left = Math.floor((bytes - mainBytes - MAIN_EDGE_BYTES) / grant)
  return { mainBytes, mostGrants: Math.min(MOST_GRANTS, left) }
}

function inBlocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES
}

/** Of nobody, while what they read of the file is still being hashed: nothing. */
function hullOf(needs: readonly Need[]): ByteRange | undefined {
  if (needs.length === 0) return undefined
  const start = Math.min(...needs.map(({ at }) => at))
  return { start, end: Math.max(...needs.map(({ end }) => end)) }
}

function readerOf({ reader }: Need): object {
  return reader
}

function isIn({ start, end }: ByteRange, at: number): boolean {
  return start <= at && at < end
}

// Requests begin and end with blocks, so they may be as much wider.
function admits(
  { start, top }: { start: number; top: number },
  at: number,
  end: number,
): Admission {
  if (isIn({ start: start - BLOCK_BYTES, end: top + BLOCK_BYTES }, at)) return 'yes'
  return at >= top && at < end ? 'wait' : 'no'
}

function foremost(needs: readonly Need[]): Need {
  return needs.reduce((first, need) => (need.at > first.at ? need : first))
}
