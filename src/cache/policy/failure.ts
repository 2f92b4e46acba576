// Errors as they are thrown, before and after the failure table (failure-table.ts): what of them the
// table decides by, and what a client is told of its decision.
import { OciError } from '../../oci/errors.ts'
import { UpstreamError } from '../../upstream/face/failure.ts'
import { exhaustionOf } from '../../process/own-fault.ts'
import type { CacheObserver } from '../observer.ts'
import {
  type Asked,
  decide,
  type Decision,
  type FinalFailure,
  type Wanted,
} from './failure-table.ts'

export type { Wanted } from './failure-table.ts'

const FAULT: FinalFailure = { kind: 'fault', reason: 'fault' }
const EXHAUSTED: FinalFailure = { kind: 'fault', reason: 'exhausted', retryAfterMs: 5_000 }

/** What a client is told of an error that is Chandlery's own, which is the `cause`. */
class FaultAnswer extends OciError {}

/** What decides of any error: also of an answer that was made of an upstream's failure. */
export function failureOf(error: unknown): FinalFailure {
  if (error instanceof UpstreamError) return error
  if (error instanceof OciError && error.cause instanceof UpstreamError) return error.cause
  return exhaustionOf(error) === undefined ? FAULT : EXHAUSTED
}

/**
 * Returns the error that is Chandlery's own, to be reported: `error`, or what an answer was made of.
 * Returns undefined for an error that an upstream explains, or that is an answer already.
 */
export function faultIn(error: unknown): unknown {
  if (error instanceof FaultAnswer) return error.cause
  const isExplained = error instanceof OciError || error instanceof UpstreamError
  return isExplained ? undefined : (error ?? new Error('nothing was thrown'))
}

/** Reports an error that is Chandlery's own. Other errors are reported where they come up. */
export function reportFault(
  error: unknown,
  operation: string,
  observer: Pick<CacheObserver, 'unexpectedError'>,
): void {
  const fault = faultIn(error)
  if (fault !== undefined) observer.unexpectedError(operation, fault)
}

/** The table's word on any error. */
export function decideOn(error: unknown, asked: Asked): Decision {
  return decide(failureOf(error), asked)
}

/**
 * Returns how many milliseconds to wait before asking again, as `retryRateLimited` wants it;
 * undefined unless the table says to wait.
 */
export function retryDelayMs(error: unknown, asked: Asked): number | undefined {
  const decision = decideOn(error, asked)
  return decision.act === 'wait' ? decision.ms : undefined
}

/** What a client is told when nothing held is served instead. An OciError passes unchanged. */
export function toClientError(error: unknown, what: Wanted): OciError {
  return error instanceof OciError ? error : refused(error, { what })
}

/**
 * As toClientError, where the upstream was only asked whether the content may be read: that it
 * cannot be asked is 503, whatever kept it from answering.
 */
export function toAccessError(error: unknown, what: Wanted): OciError {
  return error instanceof OciError ? error : refused(error, { what, onlyAccess: true })
}

function refused(error: unknown, asked: Pick<Asked, 'what' | 'onlyAccess'>): OciError {
  const decision = decideOn(error, asked)
  if (decision.act !== 'refuse') throw new Error('without what is held, the table refuses')
  const { code, status, headers } = decision
  if (!(error instanceof UpstreamError)) {
    const message = exhaustionOf(error) ?? 'internal error; the log has more'
    return new FaultAnswer(code, message, { status, headers, cause: error })
  }
  const options = { status, detail: { reason: error.reason }, headers, cause: error }
  return new OciError(code, error.message, options)
}
