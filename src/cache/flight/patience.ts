// Two ways to wait: for a result, but not longer than a limit, and for a rate limit to end.

/**
 * Returns what the promise settles to, or undefined after `ms` milliseconds. The work behind the
 * promise goes on.
 */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>()
  const timer = setTimeout(() => late.resolve(undefined), Math.max(0, ms))
  try {
    return await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * Returns how many milliseconds to wait before the request is repeated, or undefined to give up.
 * `waitedMs` is the time since the first try.
 */
export type RetryPolicy = (
  error: unknown,
  waitedMs: number,
) => number | undefined | Promise<number | undefined>

/** Added to each pause: a request that is a millisecond early would be refused again. */
const MARGIN_MS = 20

/**
 * Repeats a request while the policy says so. Meant for work that all who want the same thing
 * share, so that they also share the pauses. Throws the last error of `request`.
 */
export async function retryRateLimited<T>(
  request: () => Promise<T>,
  policy: RetryPolicy,
): Promise<T> {
  const startedAt = performance.now()
  for (;;) {
    try {
      return await request()
    } catch (error) {
      const ms = await policy(error, performance.now() - startedAt)
      if (ms === undefined) throw error
      await pause(ms + MARGIN_MS)
    }
  }
}

/** Does not keep the process alive: clients that wait do, and without any, nothing should. */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms).unref())
}
