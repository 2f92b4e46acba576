/**
 * What clients are told when the upstream failed and nothing held can be served instead: the
 * "not held" column of the failure table (README, "When an upstream fails").
 */
import { OciError } from '../oci/errors.ts'
import type { ErrorCode } from '../oci/errors.ts'
import { UpstreamError } from '../upstream/failure.ts'

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
  const options = { detail: { reason: error.reason }, headers: retryAfter(error), cause: error }
  switch (error.kind) {
    case 'gone':
      return new OciError(UNKNOWN_CODE[what], error.message, options)
    case 'denied':
      // Not 401: that would make the client log in to us.
      return new OciError('DENIED', error.message, { ...options, status: 403 })
    case 'rate-limited':
      // Not 429: containerd repeats that five times without a pause, and asks nobody else.
      return new OciError('TOOMANYREQUESTS', error.message, { ...options, status: 503 })
    case 'unavailable':
    case 'corrupt':
      return new OciError('UNAVAILABLE', error.message, { ...options, status: statusOf(error) })
  }
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

function statusOf(error: UpstreamError): number {
  switch (error.reason) {
    case 'timed-out':
      return 504
    case 'refused':
    case 'name-not-resolved':
      return 503
    case 'loop':
      return 508
    default:
      return 502
  }
}

function retryAfter(error: UpstreamError): Record<string, string> {
  if (error.retryAfterMs !== undefined) {
    return { 'retry-after': String(Math.max(1, Math.ceil(error.retryAfterMs / 1000))) }
  }
  return error.kind === 'rate-limited' ? { 'retry-after': '60' } : {}
}
