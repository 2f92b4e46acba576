// How long an upstream that failed is not asked again about something that is held: a dead upstream
// costs one timeout then, and not one per request. Pure.
import { UpstreamError } from '../../upstream/face/failure.ts'
import { pauseAfter } from './failure-table.ts'
import { failureOf } from './failure.ts'
import { RememberedFailure } from './negative-cache.ts'

/** A remembered failure: when it happened and when to ask again, in milliseconds. */
export interface Failure {
  readonly error: unknown
  readonly at: number
  readonly until: number
}

/**
 * Returns `error` as a failure at `now`, with a pause as long as the failure table says. A client that
 * is told of a 404 during the pause is told that it comes from memory.
 */
export function failureAt(error: unknown, ttlMs: number, now: number): Failure {
  const isGone = error instanceof UpstreamError && error.kind === 'gone'
  const until = now + pauseAfter(failureOf(error), ttlMs)
  return { error: isGone ? new RememberedFailure(error, now) : error, at: now, until }
}

/** Reports whether the pause lasts. A pause from the future is over: the clock went back. */
export function isPaused(failure: Failure | undefined, now: number): failure is Failure {
  return failure !== undefined && failure.at <= now && now < failure.until
}
