// Remembers that something fails, so that not every request has to find it out: opens on failures in
// a row, for longer each time, and lets one through now and then. Pure: time and chance are given.

export interface BreakerOptions {
  /** Opens when the failures in a row weigh so much. */
  readonly threshold: number
  /** The first time it is open, in milliseconds; doubled each time it opens again without a success. */
  readonly openMs: number
  readonly maxOpenMs: number
  /** Whoever was let through and reports nothing for so long is given up. */
  readonly probeMs: number
  /** In [0, 1); spreads the probes of many servers. */
  readonly random: () => number
}

export type BreakerState = 'closed' | 'open' | 'half-open'

/** `ask`: go on; `probe`: this one may find out whether it works again; `refuse`: not now. */
export type Admission = 'ask' | 'probe' | 'refuse'

export const BREAKER_DEFAULTS = {
  threshold: 3,
  openMs: 1000,
  maxOpenMs: 60_000,
  probeMs: 60_000,
} as const satisfies Partial<BreakerOptions>

export class Breaker {
  readonly #options: BreakerOptions
  #state: BreakerState = 'closed'
  #weight = 0
  #openings = 0
  #untilMs = 0
  #isAlive = false

  constructor(options: BreakerOptions) {
    this.#options = options
  }

  get state(): BreakerState {
    return this.#state
  }

  /** When it will let somebody through again; of meaning while it is not closed. */
  get untilMs(): number {
    return this.#untilMs
  }

  /** What `admit` would answer, without letting anybody through. */
  refuses(nowMs: number): boolean {
    return this.#state !== 'closed' && nowMs < this.#untilMs
  }

  /** Whoever is let through while it is not closed should report what became of it. */
  admit(nowMs: number): Admission {
    if (this.#state === 'closed') return 'ask'
    if (this.refuses(nowMs)) return 'refuse'
    this.#state = 'half-open'
    this.#untilMs = nowMs + this.#options.probeMs
    return this.#isAlive ? 'ask' : 'probe'
  }

  /** Works: closed, and what was is forgotten. */
  succeeded(): void {
    this.#state = 'closed'
    this.#weight = 0
    this.#openings = 0
    this.#isAlive = false
  }

  /**
   * `weight`: how much this failure says, `threshold` if it is enough by itself. `leastMs`: for how
   * long it is open at least, if it opens.
   */
  failed(nowMs: number, weight = 1, leastMs = 0): void {
    // What was on its way when it opened says nothing new.
    if (this.#state === 'open' && nowMs < this.#untilMs) return
    this.#weight += weight
    if (this.#state === 'closed' && this.#weight < this.#options.threshold) return
    this.#state = 'open'
    this.#isAlive = false
    this.#untilMs = nowMs + Math.max(this.#openTime(), leastMs)
    this.#openings += 1
  }

  /** It answers, but whether it works is not known: the next one is let through. */
  answered(nowMs: number): void {
    if (this.#state === 'closed') return
    this.#state = 'open'
    this.#isAlive = true
    this.#untilMs = nowMs
  }

  /** Who was let through found out nothing: another may. */
  abandoned(nowMs: number): void {
    if (this.#state !== 'half-open') return
    this.#state = 'open'
    this.#untilMs = nowMs
  }

  /** Three quarters to five quarters of the time that is due. */
  #openTime(): number {
    const { openMs, maxOpenMs, random } = this.#options
    return Math.min(openMs * 2 ** this.#openings, maxOpenMs) * (0.75 + random() / 2)
  }
}
