/** Whether it was done in time. What is late goes on by itself; rejects where it fails before. */
export async function within(ms: number, work: () => Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<false>()
  const timer = setTimeout(() => late.resolve(false), ms)
  try {
    return await Promise.race([work().then(() => true), late.promise])
  } finally {
    clearTimeout(timer)
  }
}
