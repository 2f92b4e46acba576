// Waiting: for something only so long, while it goes on by itself; and for a rate limit to end.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Decision } from '../policy/failure-table.ts'

/** What the promise settles to within `ms` milliseconds from now; undefined: it takes longer. */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => late.resolve(undefined), Math.max(0, ms))
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

/** What to do about an error, after so many milliseconds of asking and waiting. */
export type Judge = (error: unknown, waitedMs: number) => Decision | Promise<Decision>

/**
 * Asks, and asks again after a pause while `judge` says so. For work that all who want the same
 * share, so that they share the pause too. Throws what `ask` throws in the end.
 */
export async function askPatiently<T>(ask: () => Promise<T>, judge: Judge): Promise<T> {
  const startedAt = performance.now()
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      const decision = await judge(error, performance.now() - startedAt)
      if (decision.act !== 'wait') throw error
      // Not a millisecond too early, or the wait was for nothing. Clients keep the process up while
      // they wait; without them nothing has to.
      await sleep(decision.ms + 20, undefined, { ref: false })
    }
  }
}
