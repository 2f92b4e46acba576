// The answer of an endpoint that told us to wait, while the time is not over: it is not asked.
import { UpstreamError } from './failure.ts'

/** It would answer the same, and count it. No news for log and metrics. */
export class NotAsked extends UpstreamError {
  /** `waitMs`: what is left of the time it told, or that we guessed: clients are not to wait for that. */
  constructor({ key }: { readonly key: string }, waitMs: number, isGuess = false) {
    const what = `rate limited, it is not asked for another ${Math.ceil(waitMs / 1000)} s`
    const retryAfterMs = isGuess ? undefined : waitMs
    super('rate-limited', `${key}: ${what}`, { endpoint: key, status: 429, retryAfterMs })
  }
}
