// A link: records what the outcome of a request says about its endpoint. Errors of our own say
// nothing about it: they are reported, and nothing is recorded.
import { waitFor } from '../deadline.ts'
import { UpstreamError } from '../face/failure.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import type { EndpointHealth, Part } from '../health/endpoint-health.ts'
import type { BodyEnd } from '../network/body-stream.ts'
import { isOwnUrl, laneOf } from './request.ts'
import type { Link, RegistryRequest, RegistryResponse, TracedRequest } from './request.ts'

interface Parts {
  readonly health: EndpointHealth
  readonly observer: Pick<UpstreamObserver, 'unexpectedError'> | undefined
}

export function recordOutcome(
  { health, observer }: Parts,
  next: Link<TracedRequest, RegistryResponse>,
): Link<RegistryRequest, RegistryResponse> {
  const reportFault = (error: unknown) => observer?.unexpectedError?.('ask an upstream', error)
  const perform = async (request: TracedRequest, signal: AbortSignal) => {
    const response = await next(request, signal)
    recordAnswer(health, request, response, reportFault)
    return response
  }
  return async (untraced, signal) => {
    const request = { ...untraced, urlList: [] }
    try {
      // A caller that leaves is released at once, whatever the request is waiting for.
      return await waitFor(perform(request, signal), signal)
    } catch (error) {
      const isAborted = signal.aborted
      recordFailure(health, request, isAborted ? signal.reason : error)
      signal.throwIfAborted()
      if (!(error instanceof UpstreamError)) reportFault(error)
      throw error
    }
  }
}

function recordAnswer(
  health: EndpointHealth,
  request: TracedRequest,
  { status, body, sentAtMs }: RegistryResponse,
  reportFault: (error: unknown) => void,
): void {
  const { endpoint, credential } = request
  health.rateLimits.granted(endpoint, credential)
  health.answered(endpoint)
  if (request.method === 'HEAD' || status === 416) return
  const recordEnd = async () => {
    const end = await body.ended
    recordBody(health, request, end, sentAtMs)
    const isOurs = end.outcome === 'broken' && !(end.error instanceof UpstreamError)
    if (isOurs) reportFault(end.error)
  }
  void recordEnd()
}

function recordBody(
  health: EndpointHealth,
  request: TracedRequest,
  { outcome, bytes, error }: BodyEnd,
  startedAtMs: number,
): void {
  const { endpoint } = request
  const lane = laneOf(request)
  if (error instanceof UpstreamError) {
    health.bodyFailed(endpoint, lane, { error, bytes, startedAtMs })
  } else if (outcome === 'whole') health.bodyCompleted(endpoint, lane, bytes)
  else health.bodyAbandoned(endpoint, lane, bytes)
}

function recordFailure(health: EndpointHealth, request: TracedRequest, error: unknown): void {
  // A caller that left says nothing about the endpoint, and neither does an error of our own.
  if (!(error instanceof UpstreamError)) return
  const { endpoint, credential } = request
  if (countsAsOutage(error)) return health.failed(endpoint, failedPart(request), error)
  health.answered(endpoint)
  if (error.kind !== 'rate-limited') return
  health.rateLimits.refused(endpoint, credential, laneOf(request), error.retryAfterMs)
  health.limitChanged(endpoint, error)
}

/** Returns what failed: the endpoint, or the host of its content where that was asked last. */
function failedPart(request: TracedRequest): Part {
  const last = request.urlList.at(-1)
  const isAway = last !== undefined && !isOwnUrl(request.endpoint, last)
  return isAway && laneOf(request) === 'content' ? 'content' : 'endpoint'
}

/**
 * Reports whether the endpoint cannot be used at all. A refusal of this one request is an answer.
 */
function countsAsOutage({ kind, reason, status = 500 }: UpstreamError): boolean {
  if (kind !== 'unavailable' || reason === 'loop') return false
  return reason === 'timed-out' || (status >= 500 && status !== 501)
}
