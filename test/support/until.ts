// Waits for a condition instead of for a time after which it should hold.
import { setTimeout as sleep } from 'node:timers/promises'

const LOOK_EVERY_MS = 10
/** No condition takes this long unless the machine is overloaded. */
const PATIENCE_MS = 15_000

/**
 * Resolves when the condition holds. Rejects after fifteen seconds with an error that names `what`.
 * For tests that run concurrently with others of their file; others can use `expect.poll`.
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
