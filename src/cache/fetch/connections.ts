// Decides how many connections one download uses: one where a link is near and fast, several where it is
// far, and more where it loses packets, as long as more of them bring more. Pure: time is an argument.

export interface ConcurrencyOptions {
  /** The connections on a link that is far or slow. */
  readonly connections: number
  /** The most connections, whatever the link. */
  readonly most: number
}

/** A first byte this late, in milliseconds, means a far link: one TCP window will not fill it. */
const FAR_MS = 15
/** A connection that brings this many bytes per millisecond needs no second one beside it. */
const FAST_BYTES_PER_MS = 64_000
/** How long a near link has to show how fast it is, in milliseconds. */
const PROOF_MS = 100
/** The time over which a rate is measured, in milliseconds. */
const WINDOW_MS = 1000
/** Connections slower than this, in bytes per millisecond, lose packets, or the upstream limits each. */
const SLOW_BYTES_PER_MS = 4_000
/** Twice the connections are kept if they bring at least this many times the bytes. */
const WORTH = 1.2
/** How long to wait before trying more connections again after they brought nothing, in milliseconds. */
const REST_MS = 15_000

export class Concurrency {
  #options: ConcurrencyOptions
  #limit = 1
  #openedAt: number | undefined
  #proven = false
  #bytes = 0
  #windowAt = 0
  #before: { limit: number; rate: number } | undefined
  #restUntil = 0

  constructor(options: ConcurrencyOptions) {
    this.#options = options
  }

  get limit(): number {
    return this.#limit
  }

  /** Reports whether there will be several connections, from the endpoint's latency before anything came. */
  looksFar(latencyMs: number | undefined): boolean {
    return this.#openedAt === undefined && latencyMs !== undefined && latencyMs >= FAR_MS
  }

  /** A response began, `waitedMs` after its request; the first one decides, with its source's `options`. */
  opened(waitedMs: number, now: number, options = this.#options): void {
    if (this.#openedAt !== undefined) return
    this.#options = options
    this.#openedAt = now
    this.#windowAt = now
    if (waitedMs >= FAR_MS) this.#widen(now)
  }

  /** Bytes arrived. */
  arrived(bytes: number, now: number): void {
    this.#bytes += bytes
    const elapsed = now - this.#windowAt
    if (!this.#proven) {
      if (now - (this.#openedAt ?? now) < PROOF_MS) return
      if (this.#bytes / elapsed < FAST_BYTES_PER_MS) this.#widen(now)
      else this.#startWindow(now)
      this.#proven = true
    } else if (elapsed >= WINDOW_MS) this.#judge(this.#bytes / elapsed, now)
  }

  #widen(now: number): void {
    this.#proven = true
    this.#limit = Math.min(this.#options.connections, this.#options.most)
    this.#startWindow(now)
  }

  #judge(rate: number, now: number): void {
    const before = this.#before
    this.#before = undefined
    if (before && rate < before.rate * WORTH) {
      this.#limit = before.limit
      this.#restUntil = now + REST_MS
    } else if (this.#wantsMore(rate, now)) {
      this.#before = { limit: this.#limit, rate }
      this.#limit = Math.min(this.#limit * 2, this.#options.most)
    }
    this.#startWindow(now)
  }

  #wantsMore(rate: number, now: number): boolean {
    const slow = rate / this.#limit < SLOW_BYTES_PER_MS
    return slow && this.#limit < this.#options.most && now >= this.#restUntil
  }

  #startWindow(now: number): void {
    this.#windowAt = now
    this.#bytes = 0
  }
}
