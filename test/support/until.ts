// Waiting for what comes about on its own, instead of for a time in which it should have.
import { setTimeout as sleep } from 'node:timers/promises'

const LOOK_EVERY_MS = 5
/** Nothing takes as long on a machine that is not overloaded. */
const PATIENCE_MS = 10_000

/** Resolves when the condition holds; rejects, with `what` was waited for, after ten seconds. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what = String(condition),
): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not in ${PATIENCE_MS} ms: ${what}`)
    await sleep(LOOK_EVERY_MS)
  }
}
