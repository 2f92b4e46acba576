// What clients are told when the upstream failed and nothing held can be served instead: the
// "not held" column of the failure table (README, "When an upstream fails").
import { OciError } from '../oci/errors.ts'
import type { ErrorCode } from '../oci/errors.ts'
import { type FailureReason, UpstreamError } from '../upstream/failure.ts'

/** What was asked for. */
export type Wanted = 'manifest' | 'blob' | 'tags' | 'referrers'

const UNKNOWN_CODE: Record<Wanted, ErrorCode> = {
  manifest: 'MANIFEST_UNKNOWN',
  blob: 'BLOB_UNKNOWN',
  tags: 'NAME_UNKNOWN',
  referrers: 'MANIFEST_UNKNOWN',
}

/** Turns any error into one for clients. An OciError passes unchanged. */
export function toClientError(error: unknown, what: Wanted): OciError {
  if (error instanceof OciError) return error
  if (!(error instanceof UpstreamError)) {
    return new OciError('UNKNOWN', 'internal error; the log has more', { cause: error })
  }
  const [code, status] = answerTo(error, what)
  const headers = retryAfter(error)
  const options = { status, detail: { reason: error.reason }, headers, cause: error }
  return new OciError(code, error.message, options)
}

function answerTo(error: UpstreamError, what: Wanted): [ErrorCode, number] {
  if (error.kind === 'gone') return [UNKNOWN_CODE[what], 404]
  // Not 401: that would make the client log in to us.
  if (error.kind === 'denied') return ['DENIED', 403]
  // Not 429: containerd repeats that five times without a pause, and asks nobody else.
  if (error.kind === 'rate-limited') return ['TOOMANYREQUESTS', 503]
  return ['UNAVAILABLE', STATUS_OF[error.reason] ?? 502]
}

/** What is no fault of the upstream's answer, but of reaching it; all else is 502. */
const STATUS_OF: Partial<Record<FailureReason, number>> = {
  'timed-out': 504,
  refused: 503,
  'name-not-resolved': 503,
  loop: 508,
}

/**
 * As toClientError, where the upstream was only asked whether the content may be read: that it
 * cannot be asked is 503, whatever kept it from answering.
 */
export function toAccessError(error: unknown, what: Wanted): OciError {
  const mapped = toClientError(error, what)
  if (mapped.status !== 502 && mapped.status !== 504) return mapped
  const { message, detail, headers } = mapped
  return new OciError('UNAVAILABLE', message, { status: 503, detail, headers, cause: error })
}

function retryAfter(error: UpstreamError): Record<string, string> {
  if (error.retryAfterMs !== undefined) {
    return { 'retry-after': String(Math.max(1, Math.ceil(error.retryAfterMs / 1000))) }
  }
  return error.kind === 'rate-limited' ? { 'retry-after': '60' } : {}
}
