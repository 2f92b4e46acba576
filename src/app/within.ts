// Waits for work, but only for so long.

/** Reports whether the work ended within `ms`. Late work goes on in the background. Rejects if it fails in time. */
export async function within(ms: number, work: () => Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<false>()
  const timer = setTimeout(() => late.resolve(false), ms)
  try {
    return await Promise.race([work().then(() => true), late.promise])
  } finally {
    clearTimeout(timer)
  }
}
