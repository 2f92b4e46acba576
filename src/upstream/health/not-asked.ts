// The answer of an endpoint that told us to wait, while the time is not over: it is not asked.
import { UpstreamError } from '../face/failure.ts'

interface Wait {
  /** In milliseconds: what is left of the time it told, or that we guessed. */
  readonly ms: number
  /** Clients are not to wait for what is only guessed. */
  readonly isGuess?: boolean
  /** What it answered; default: that it limits us. */
  readonly instead?: UpstreamError | undefined
}

/** It would answer the same, and may count it. No news for log and metrics. */
export class NotAsked extends UpstreamError {
  constructor({ key }: { readonly key: string }, { ms, isGuess = false, instead }: Wait) {
    const { reason, status } = instead ?? { reason: 'rate-limited', status: 429 }
    const why = instead === undefined ? 'rate limited' : `it fails (${status})`
    const what = `${why}, it is not asked for another ${Math.ceil(ms / 1000)} s`
    const retryAfterMs = isGuess ? undefined : ms
    super(reason, `${key}: ${what}`, { endpoint: key, status, retryAfterMs })
  }
}
