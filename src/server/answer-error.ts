// Turns whatever went wrong with a request into an OCI error body, or cuts the connection if the response
// has begun. Fastify's error handler ends here: the one edge where errors become bytes.
import { faultIn, toClientError, type Wanted } from '../cache/policy/failure.ts'
import { RememberedFailure } from '../cache/policy/negative-cache.ts'
import { ageSeconds } from '../http/age.ts'
import type { CacheOutcome } from '../http/cache-status.ts'
import { errorBody, OciError } from '../oci/errors.ts'
import { ClientGone } from './outgoing.ts'
import type { Exchange } from './exchange.ts'
import type { RequestKind, ServerObserver } from './observer.ts'

const JSON_TYPE = 'application/json'

type FaultObserver = Pick<ServerObserver, 'unexpectedError'>

/** Answers with the error. The response has not begun. */
export function answerError(exchange: Exchange, error: unknown, observer: FaultObserver): void {
  if (isClientGone(exchange, error)) return exchange.cut()
  const { told, cause } = recordFailure(exchange, error, observer)
  const cacheHeaders = cause && exchange.cacheHeaders(outcomeOf(cause, told))
  const headers = { 'content-type': JSON_TYPE, ...told.headers, ...cacheHeaders }
  try {
    exchange.respond(told.status, headers, errorBody(told))
  } catch (fault) {
    observer.unexpectedError('refuse a request', fault, exchange.id)
    exchange.cut()
  }
}

/** Ends a response that failed after it had begun, so that no client takes a part for the whole. */
export function cutResponse(exchange: Exchange, error: unknown, observer: FaultObserver): void {
  if (exchange.res.writableEnded) return // the server is shutting down and has answered already
  if (!isClientGone(exchange, error)) recordFailure(exchange, error, observer)
  exchange.cut()
}

interface Failure {
  readonly told: OciError
  readonly cause: UpstreamFailure | undefined
}

/** Notes for the access log why the request failed, and reports internal errors. */
function recordFailure(exchange: Exchange, error: unknown, observer: FaultObserver): Failure {
  const told = toOciError(error, exchange.kind)
  const cause = upstreamFailureOf(error) ?? upstreamFailureOf(told.cause)
  exchange.failure = cause?.reason ?? told.code
  exchange.message = cause?.message ?? told.message
  const fault = faultIn(told)
  if (fault !== undefined) observer.unexpectedError('answer a request', fault, exchange.id)
  return { told, cause }
}

function outcomeOf({ reason, status }: UpstreamFailure, told: OciError): CacheOutcome {
  if (told.cause instanceof RememberedFailure) {
    const age = ageSeconds(told.cause.at, Date.now())
    return { state: 'hit', detail: 'negative', ageSeconds: age }
  }
  const forwarded = status === undefined ? {} : { fwdStatus: status }
  return { state: 'miss', detail: reason, ...forwarded }
}

function isClientGone(exchange: Exchange, error: unknown): boolean {
  return error instanceof ClientGone || exchange.gone.aborted
}

function toOciError(error: unknown, kind: RequestKind): OciError {
  if (error instanceof OciError) return error
  return frameworkError(error) ?? toClientError(error, wantedFor(kind))
}

// An error of Fastify's own: a 4xx status means that the request was at fault.
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

// Recognized by shape: src/server does not import src/upstream.
function upstreamFailureOf(error: unknown): UpstreamFailure | undefined {
  if (!(error instanceof Error) || !('reason' in error)) return undefined
  const { reason, message } = error
  const status = 'status' in error && typeof error.status === 'number' ? error.status : undefined
  return typeof reason === 'string' ? { reason, message, status } : undefined
}
