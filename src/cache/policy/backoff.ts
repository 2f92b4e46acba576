// For how long an upstream that failed is left alone about something that is held, so that a dead
// one costs one timeout and not one for every request. Pure.
import { pauseAfter } from './failure-table.ts'
import { failureOf } from './failure.ts'

/** A failure that is remembered, with when it happened and when to ask again (milliseconds). */
export interface Failure {
  readonly error: unknown
  readonly at: number
  readonly until: number
}

/** Remembers `error` for as long as the failure table says. */
export function failureAt(error: unknown, ttlMs: number, now: number): Failure {
  return { error, at: now, until: now + pauseAfter(failureOf(error), ttlMs) }
}

/** Whether the pause lasts. One that began in the future is over: the clock went back. */
export function isPaused(failure: Failure | undefined, now: number): failure is Failure {
  return failure !== undefined && failure.at <= now && now < failure.until
}
