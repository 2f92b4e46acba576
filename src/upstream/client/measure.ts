// A link: reports each exchange and its bytes, and reads from the answer how far the endpoint is and
// how many requests it still grants.
import { performance } from 'node:perf_hooks'

import { UpstreamError } from '../face/failure.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import type { EndpointHealth } from '../health/endpoint-health.ts'
import type { ExchangeRequest, ExchangeResponse, Link, RegistryRequest } from './request.ts'

interface Parts {
  readonly health: Pick<EndpointHealth, 'recordLatency' | 'rateLimits'>
  readonly observer: Pick<UpstreamObserver, 'upstreamRequest' | 'upstreamBytes'> | undefined
}

export interface MeasuredRequest extends ExchangeRequest, Pick<RegistryRequest, 'kind'> {}

export function measure(
  { health, observer }: Parts,
  next: Link<ExchangeRequest, ExchangeResponse>,
): Link<MeasuredRequest, ExchangeResponse> {
  return async (request, signal) => {
    const { endpoint, method, kind } = request
    const startedAt = performance.now()
    const report = (outcome: string) => {
      const seconds = (performance.now() - startedAt) / 1000
      observer?.upstreamRequest({ endpoint: endpoint.key, method, kind, outcome, seconds })
    }
    const onBytes = (bytes: number) => observer?.upstreamBytes(endpoint.key, bytes, kind)
    try {
      const response = await next({ ...request, onBytes }, signal)
      report(String(response.status))
      if (!response.asked.redirected) {
        health.recordLatency(endpoint, performance.now() - startedAt)
        readLimits(health, request, response)
      }
      return response
    } catch (error) {
      if (error instanceof UpstreamError) report(error.reason)
      throw error
    }
  }
}

/** A challenge is an answer to nobody, so its numbers say nothing about the credential. */
function readLimits(
  { rateLimits }: Parts['health'],
  { endpoint, credential }: MeasuredRequest,
  { status, headers }: ExchangeResponse,
): void {
  if (status !== 401) rateLimits.read(endpoint, credential, headers)
}
