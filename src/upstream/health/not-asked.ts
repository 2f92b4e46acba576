// The failure of an endpoint that is not asked, because it told us to wait and the time is not over.
import { UpstreamError } from '../face/failure.ts'

interface Wait {
  /** What is left of the time that it named or that we guessed, in milliseconds. */
  readonly ms: number
  /** Our guess: clients are not told to wait for it. */
  readonly isGuess?: boolean
  /** The failure that named the time. Default: a rate limit. */
  readonly instead?: UpstreamError | undefined
}

/** Repeats what the endpoint said before, so it is not reported again. */
export class NotAsked extends UpstreamError {
  constructor({ key }: { readonly key: string }, { ms, isGuess = false, instead }: Wait) {
    const { reason, status } = instead ?? { reason: 'rate-limited', status: 429 }
    const why = instead === undefined ? 'rate limited' : `it fails (${status})`
    const what = `${why}, it is not asked for another ${Math.ceil(ms / 1000)} s`
    const retryAfterMs = isGuess ? undefined : ms
    super(reason, `${key}: ${what}`, { endpoint: key, status, retryAfterMs })
  }
}
