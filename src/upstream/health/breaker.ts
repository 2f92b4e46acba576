// A circuit breaker: remembers that something is down, so that not every request has to find out. It
// opens after consecutive failures, each time for longer, and then lets one caller at a time try.
//
//   closed ──failures──► open ──its time is over, one caller succeeds──► closed
//                         │ ▲
//   a probe was answered  ▼ │ the first failure
//                       on trial ──one caller succeeds──► closed
//
// On trial it counts as working, but callers go through one at a time until one has succeeded. Pure:
// time and randomness are arguments.

export interface BreakerOptions {
  /** It opens when the weights of the failures in a row add up to this. */
  readonly threshold: number
  /** How long it stays open the first time, in milliseconds; doubled each time until a success. */
  readonly openMs: number
  readonly maxOpenMs: number
  /**
   * A caller that has been trying for this long, in milliseconds, no longer keeps others from
   * trying.
   */
  readonly trialMs: number
  /** In [0, 1); spreads the trials of many servers. */
  readonly random: () => number
}

/** `half-open`: a caller is trying. */
export type BreakerState = 'closed' | 'open' | 'half-open'

/**
 * What a caller would find: `closed`: everybody goes through; `on-trial`: one goes through, a probe
 * was answered; `due`: one goes through, the open time is over; `open`: nobody does.
 */
export type Readiness = 'closed' | 'on-trial' | 'due' | 'open'

/**
 * The right to go through. Dispose of it once the outcome has been reported, or if there is none.
 */
export interface Admission extends Disposable {
  /** Nobody else goes through until it is disposed of. */
  readonly isTrial: boolean
}

export const BREAKER_DEFAULTS = {
  threshold: 3,
  openMs: 1000,
  maxOpenMs: 60_000,
  trialMs: 60_000,
} as const satisfies Partial<BreakerOptions>

interface Trial {
  readonly untilMs: number
  readonly over: PromiseWithResolvers<void>
}

/** Shared by all callers of a closed breaker: there is nothing to release. */
const UNLIMITED: Admission = { isTrial: false, [Symbol.dispose]: () => undefined }

export class Breaker {
  readonly #options: BreakerOptions
  #status: Exclude<Readiness, 'due'> = 'closed'
  #trial: Trial | undefined
  #weight = 0
  #openings = 0
  #untilMs = 0
  /** It failed although a probe had been answered. */
  #isMisled = false

  constructor(options: BreakerOptions) {
    this.#options = options
  }

  get state(): BreakerState {
    if (this.#trial !== undefined) return 'half-open'
    return this.#status === 'open' ? 'open' : 'closed'
  }

  /** When it lets a caller try again. Meaningful only while it is open. */
  get untilMs(): number {
    return this.#untilMs
  }

  /**
   * Resolves when the caller that is trying has an outcome or has given up; undefined if there is
   * none.
   */
  get trial(): Promise<void> | undefined {
    return this.#trial?.over.promise
  }

  readiness(nowMs: number): Readiness {
    if (this.#status === 'closed') return 'closed'
    if (this.#trial !== undefined && nowMs < this.#trial.untilMs) return 'open'
    if (this.#status === 'on-trial') return 'on-trial'
    return nowMs < this.#untilMs ? 'open' : 'due'
  }

  /**
   * Lets the caller through, or returns undefined. Only for a caller that really is about to try.
   */
  admit(nowMs: number): Admission | undefined {
    const readiness = this.readiness(nowMs)
    if (readiness === 'open') return undefined
    if (readiness === 'closed') return UNLIMITED
    this.#endTrial()
    const trial = { untilMs: nowMs + this.#options.trialMs, over: Promise.withResolvers<void>() }
    this.#trial = trial
    return {
      isTrial: true,
      [Symbol.dispose]: () => {
        if (this.#trial === trial) this.#endTrial()
      },
    }
  }

  /** Closes it and forgets all failures. */
  succeeded(): void {
    this.#status = 'closed'
    this.#weight = 0
    this.#openings = 0
    this.#isMisled = false
    this.#endTrial()
  }

  /**
   * Adds a failure. `weight` is how much it counts: as much as `threshold` opens the breaker at once.
   * `leastMs` is how long the breaker stays open at least, if this failure opens it.
   */
  failed(nowMs: number, weight = 1, leastMs = 0): void {
    // Requests that were already running when it opened say nothing new.
    if (this.#status === 'open' && this.#trial === undefined && nowMs < this.#untilMs) return
    this.#weight += weight
    if (this.#status === 'closed' && this.#weight < this.#options.threshold) return
    if (this.#status === 'on-trial') this.#isMisled = true
    this.#status = 'open'
    this.#untilMs = nowMs + Math.max(this.#openTime(), leastMs)
    this.#openings += 1
    this.#endTrial()
  }

  /**
   * Puts it on trial: a probe was answered. `isProof`: that says so much that its open time need not
   * be over, unless the same was said before and turned out wrong.
   */
  probed(nowMs: number, isProof: boolean): void {
    if (this.#status !== 'open') return
    if (nowMs < this.#untilMs && (!isProof || this.#isMisled)) return
    this.#status = 'on-trial'
  }

  #endTrial(): void {
    this.#trial?.over.resolve()
    this.#trial = undefined
  }

  /** Between three and five quarters of the time that is due. */
  #openTime(): number {
    const { openMs, maxOpenMs, random } = this.#options
    return Math.min(openMs * 2 ** this.#openings, maxOpenMs) * (0.75 + random() / 2)
  }
}
