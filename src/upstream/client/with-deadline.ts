// Links that end a request in time: one limits how long one endpoint's document may take, and the
// other rejects as soon as the signal fires.
import { setImmediate } from 'node:timers/promises'

import { Deadline, waitFor } from '../deadline.ts'
import { UpstreamError } from '../face/failure.ts'
import type { UpstreamLimits } from '../network/timeouts.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import type { EndpointLink } from './request.ts'

interface Parts {
  readonly limitsFor: (endpoint: Endpoint) => Pick<UpstreamLimits, 'documentTimeoutMs'>
}

/** Covers everything below: waiting for a trial, all credentials, tokens, pages and bodies. */
export function withDeadline({ limitsFor }: Parts, next: EndpointLink): EndpointLink {
  return async (request, signal) => {
    const { endpoint } = request.route
    const { documentTimeoutMs: ms } = limitsFor(endpoint)
    using deadline = new Deadline(ms, () => tooSlow(endpoint, ms), signal)
    return await next(request, deadline.signal)
  }
}

/**
 * Rejects with the signal's reason when the signal fires, even if a link below ignores its signal.
 * Links that heed it get one turn of the event loop first, to record how the request ended.
 */
export function untilAborted(next: EndpointLink): EndpointLink {
  return async (request, signal) => {
    const result = next(request, signal)
    return await waitFor(result, signal, () => setImmediate())
  }
}

function tooSlow({ key }: Endpoint, ms: number): UpstreamError {
  const cure = 'list another endpoint before it in mirrors.<registry>.endpoint'
  const what = `sent no whole answer in ${ms / 1000} s: ${cure}`
  return new UpstreamError('timed-out', `${key}: ${what}`, { endpoint: key })
}
