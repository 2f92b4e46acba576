// How many connections one download uses: one where a link is near and fast, several where it is far,
// more where it loses packets and more of them prove to bring more. Pure: time is an argument.

export interface ConcurrencyOptions {
  /** On a link that is far or slow. */
  readonly connections: number
  /** Never more than this. */
  readonly most: number
}

/** A first byte this late means a far link: the window of one connection will not fill it. */
const FAR_MS = 15
/** A connection that brings this many bytes a millisecond is not worth a second one. */
const FAST_BYTES_PER_MS = 64_000
/** How long a near link has to show how fast it is. */
const PROOF_MS = 100
/** The time over which a rate is measured. */
const WINDOW_MS = 1000
/** Connections slower than this are losing packets, or the upstream limits each of them. */
const SLOW_BYTES_PER_MS = 4_000
/** What twice the connections must bring to be kept, times as much as before. */
const WORTH = 1.2
/** After connections that brought nothing: when to try again. */
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

  /** Whether it will be several, as far as the `latencyMs` of the endpoint tells before anything came. */
  looksFar(latencyMs: number | undefined): boolean {
    return this.#openedAt === undefined && latencyMs !== undefined && latencyMs >= FAR_MS
  }

  /** A response began, `waitedMs` after it was asked for; the first decides, with its source's `options`. */
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
