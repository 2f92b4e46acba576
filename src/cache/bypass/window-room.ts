// Requests that brought something of a blob that passes through before there is room for it: they wait
// until readers have gone on, or until nobody will read it any more.
import type { Admission } from './window-zones.ts'

interface Waiter {
  readonly at: number
  readonly apart: boolean
  readonly go: (mayWrite: boolean) => void
}

export class WindowRoom {
  readonly #admits: (at: number, apart: boolean) => Admission
  readonly #waiters = new Set<Waiter>()

  /** `admits`: whether what begins at `at` may be written; `apart`: for readers that are elsewhere. */
  constructor(admits: (at: number, apart: boolean) => Admission) {
    this.#admits = admits
  }

  /** True once it may be written; false where nobody will read it, or the signal fires. */
  async wait(at: number, apart: boolean, signal: AbortSignal): Promise<boolean> {
    const answer = this.#admits(at, apart)
    if (signal.aborted || answer !== 'wait') return answer === 'yes' && !signal.aborted
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const waiter: Waiter = { at, apart, go: resolve }
    const aborted = () => resolve(false)
    this.#waiters.add(waiter)
    signal.addEventListener('abort', aborted, { once: true })
    try {
      return await promise
    } finally {
      this.#waiters.delete(waiter)
      signal.removeEventListener('abort', aborted)
    }
  }

  /** Lets those go on that have not to wait any more. */
  look(): void {
    for (const { at, apart, go } of this.#waiters) {
      const answer = this.#admits(at, apart)
      if (answer !== 'wait') go(answer === 'yes')
    }
  }

  /** Nobody reads any more. */
  end(): void {
    for (const { go } of this.#waiters) go(false)
  }
}
