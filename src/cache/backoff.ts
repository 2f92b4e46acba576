// For how long an upstream that failed is left alone about something that is held, so that a dead
// one costs one timeout and not one for every request. Pure.
import { type FailureKind, UpstreamError } from '../upstream/failure.ts'
import type { StaleReason } from './observer.ts'

/** A failure that is remembered, with when it happened and when to ask again (milliseconds). */
export interface Failure {
  readonly error: unknown
  readonly at: number
  readonly until: number
}

const LONGEST_PAUSE_MS = 5_000
const SHORTEST_PAUSE_MS = 1_000
const RATE_LIMITED_PAUSE_MS = 60_000
/** However long an upstream tells us to wait: it may recover before, and it may be wrong. */
const LONGEST_RETRY_AFTER_MS = 60 * 60_000

/** Remembers `error`: until Retry-After where the upstream limits us, else a few seconds. */
export function failureAt(error: unknown, ttlMs: number, now: number): Failure {
  const pause =
    error instanceof UpstreamError && error.kind === 'rate-limited'
      ? (error.retryAfterMs ?? RATE_LIMITED_PAUSE_MS)
      : Math.min(ttlMs, LONGEST_PAUSE_MS)
  const bounded = Math.min(Math.max(pause, SHORTEST_PAUSE_MS), LONGEST_RETRY_AFTER_MS)
  return { error, at: now, until: now + bounded }
}

/** Whether the pause lasts. One that began in the future is over: the clock went back. */
export function isPaused(failure: Failure | undefined, now: number): failure is Failure {
  return failure !== undefined && failure.at <= now && now < failure.until
}

/** Why the held one is served when asking failed so: the `detail` of Cache-Status. */
export function staleReasonOf(error: unknown): StaleReason {
  return error instanceof UpstreamError ? STALE_REASONS[error.kind] : 'upstream-error'
}

const STALE_REASONS: Readonly<Record<FailureKind, StaleReason>> = {
  unavailable: 'upstream-error',
  'rate-limited': 'rate-limited',
  corrupt: 'upstream-error',
  denied: 'denied',
  gone: 'upstream-gone',
}
