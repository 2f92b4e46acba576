// The error codes that clients see, in one table, and the error that carries one of them.
// cache/policy/failure-table.ts decides which code an upstream's failure becomes.

export type ErrorCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DENIED'
  | 'DIGEST_INVALID'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'MANIFEST_UNVERIFIED'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'PAGINATION_NUMBER_INVALID'
  | 'RANGE_INVALID'
  | 'SIZE_INVALID'
  | 'TAG_INVALID'
  | 'TOOMANYREQUESTS'
  | 'UNAUTHORIZED'
  | 'UNAVAILABLE'
  | 'UNKNOWN'
  | 'UNSUPPORTED'

/** The status and default message of each code (distribution-spec, Error Codes; the last six are distribution's own). */
export const ERRORS: Readonly<Record<ErrorCode, { status: number; message: string }>> = {
  BLOB_UNKNOWN: { status: 404, message: 'blob unknown to registry' },
  BLOB_UPLOAD_INVALID: { status: 404, message: 'blob upload invalid' },
  BLOB_UPLOAD_UNKNOWN: { status: 404, message: 'blob upload unknown to registry' },
  DENIED: { status: 403, message: 'requested access to the resource is denied' },
  DIGEST_INVALID: { status: 400, message: 'provided digest is not a supported digest' },
  MANIFEST_BLOB_UNKNOWN: { status: 400, message: 'manifest references a blob unknown to registry' },
  MANIFEST_INVALID: { status: 400, message: 'manifest invalid' },
  MANIFEST_UNKNOWN: { status: 404, message: 'manifest unknown to registry' },
  NAME_INVALID: { status: 400, message: 'invalid repository name' },
  NAME_UNKNOWN: { status: 404, message: 'repository name not known to registry' },
  SIZE_INVALID: { status: 400, message: 'provided length did not match content length' },
  TOOMANYREQUESTS: { status: 429, message: 'too many requests' },
  UNAUTHORIZED: { status: 401, message: 'authentication required' },
  UNSUPPORTED: { status: 405, message: 'the operation is unsupported: this registry is read-only' },
  MANIFEST_UNVERIFIED: { status: 400, message: 'manifest failed signature verification' },
  PAGINATION_NUMBER_INVALID: { status: 400, message: 'invalid number of results requested' },
  RANGE_INVALID: { status: 416, message: 'requested range is outside the content' },
  TAG_INVALID: { status: 400, message: 'invalid tag' },
  UNAVAILABLE: { status: 503, message: 'service unavailable' },
  UNKNOWN: { status: 500, message: 'unknown error' },
}

export interface OciErrorOptions {
  status?: number
  detail?: unknown
  headers?: Record<string, string>
  cause?: unknown
}

/** An error response to a client. The status is the table's unless another is given; `headers` may hold Retry-After. */
export class OciError extends Error {
  readonly code: ErrorCode
  readonly status: number
  readonly detail?: unknown
  readonly headers: Readonly<Record<string, string>>

  constructor(code: ErrorCode, message?: string, options: OciErrorOptions = {}) {
    super(
      message ?? ERRORS[code].message,
      options.cause === undefined ? undefined : { cause: options.cause },
    )
    this.name = 'OciError'
    this.code = code
    this.status = options.status ?? ERRORS[code].status
    this.headers = options.headers ?? {}
    if (options.detail !== undefined) this.detail = options.detail
  }
}

/** Returns the JSON body of an error response (distribution-spec, Error Codes), without a detail that JSON cannot hold. */
export function errorBody(error: { code: string; message: string; detail?: unknown }): Buffer {
  const { code, message, detail } = error
  try {
    return Buffer.from(JSON.stringify({ errors: [{ code, message, detail }] }))
  } catch {
    return Buffer.from(JSON.stringify({ errors: [{ code, message }] }))
  }
}
