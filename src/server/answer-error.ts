// Turns whatever went wrong with a request into an OCI error body, or into a cut connection where the
// response has begun. The one edge where errors become bytes.
import { faultIn, toClientError, type Wanted } from '../cache/policy/failure.ts'
import { RememberedFailure } from '../cache/policy/negative-cache.ts'
import type { CacheOutcome } from '../http/cache-status.ts'
import { errorBody, OciError } from '../oci/errors.ts'
import { ClientGone } from './outgoing.ts'
import type { Exchange } from './exchange.ts'
import type { RequestKind, ServerObserver } from './observer.ts'

const JSON_TYPE = 'application/json'

export function answerError(
  exchange: Exchange,
  error: unknown,
  observer: Pick<ServerObserver, 'unexpectedError'>,
): void {
  if (exchange.res.writableEnded) return // it was answered already: the server is shutting down
  if (isClientsOwn(exchange, error)) {
    exchange.res.destroy()
    return
  }
  const told = toOciError(error, exchange.kind)
  const cause = upstreamFailureOf(error) ?? upstreamFailureOf(told.cause)
  exchange.failure = cause?.reason ?? told.code
  exchange.message = cause?.message ?? told.message
  const fault = faultIn(told)
  if (fault !== undefined) observer.unexpectedError('answer a request', fault, exchange.id)
  if (exchange.res.headersSent) {
    exchange.res.destroy()
    return
  }
  const headers: Record<string, string | number> = { 'content-type': JSON_TYPE, ...told.headers }
  if (cause) headers['cache-status'] = exchange.cacheStatus(outcomeOf(cause, told))
  exchange.respond(told.status, headers, errorBody(told))
}

function outcomeOf({ reason, status }: UpstreamFailure, told: OciError): CacheOutcome {
  if (told.cause instanceof RememberedFailure) return { state: 'hit', detail: 'negative' }
  const forwarded = status === undefined ? {} : { fwdStatus: status }
  return { state: 'miss', detail: reason, ...forwarded }
}

function isClientsOwn(exchange: Exchange, error: unknown): boolean {
  return error instanceof ClientGone || exchange.gone.aborted
}

function toOciError(error: unknown, kind: RequestKind): OciError {
  if (error instanceof OciError) return error
  return frameworkError(error) ?? toClientError(error, wantedFor(kind))
}

// Fastify's own: a status of 4xx means that the request was at fault.
function frameworkError(error: unknown): OciError | undefined {
  if (!(error instanceof Error) || !('statusCode' in error)) return undefined
  const status = Number(error.statusCode)
  return status >= 400 && status < 500
    ? new OciError('UNSUPPORTED', error.message, { status })
    : undefined
}

function wantedFor(kind: RequestKind): Wanted {
  return kind === 'blob' || kind === 'tags' || kind === 'referrers' ? kind : 'manifest'
}

interface UpstreamFailure {
  readonly reason: string
  readonly message: string
  readonly status: number | undefined
}

// By shape: this room does not import upstream/.
function upstreamFailureOf(error: unknown): UpstreamFailure | undefined {
  if (!(error instanceof Error) || !('reason' in error)) return undefined
  const { reason, message } = error
  const status = 'status' in error && typeof error.status === 'number' ? error.status : undefined
  return typeof reason === 'string' ? { reason, message, status } : undefined
}
