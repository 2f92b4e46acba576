// Waiting for what comes about on its own, instead of for a time in which it should have.
import { setTimeout as sleep } from 'node:timers/promises'

const LOOK_EVERY_MS = 10
/** Nothing takes as long on a machine that is not overloaded. */
const PATIENCE_MS = 15_000

/**
 * Resolves when the condition holds; rejects after fifteen seconds, naming `what` was waited for. Tests
 * that run at the same time as others of their file use this, where others may use `expect.poll`.
 */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what = String(condition),
  { everyMs = LOOK_EVERY_MS } = {},
): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not in ${PATIENCE_MS} ms: ${what}`)
    await sleep(everyMs)
  }
}
