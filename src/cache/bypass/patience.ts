// How long a read that several readers share waits for the slowest of them before it goes on without.
// A tenth of the time may always be spent waiting, so that readers at about the same pace stay together;
// one that has stopped costs the others the longest wait, once. Pure: time is an argument.

/** The part of the time that may always be spent waiting. */
const SHARE = 0.1

export class Patience {
  #spentMs = 0
  /** Since when the read waits, or goes on. */
  #since: number
  #isWaiting = false

  constructor(now: number) {
    this.#since = now
  }

  /** The read waits. Returns how many of `maxMs` milliseconds it may still wait. */
  wait(maxMs: number, now: number): number {
    if (!this.#isWaiting) {
      this.#spentMs = Math.max(0, this.#spentMs - (now - this.#since) * SHARE)
      this.#since = now
      this.#isWaiting = true
    }
    return Math.max(0, maxMs - this.#spentMs - (now - this.#since))
  }

  /** The read goes on. */
  goOn(now: number): void {
    if (!this.#isWaiting) return
    this.#spentMs += now - this.#since
    this.#since = now
    this.#isWaiting = false
  }

  /** Somebody was left behind: the next who is slow is waited for anew. */
  reset(now: number): void {
    this.#spentMs = 0
    this.#since = now
    this.#isWaiting = false
  }
}
