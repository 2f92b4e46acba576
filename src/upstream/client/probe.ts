// Probes: the smallest request that shows whether an endpoint answers at all. It asks for nothing
// and carries no credential.
import { performance } from 'node:perf_hooks'

import { ANONYMOUS } from '../credentials/credentials.ts'
import { waitFor } from '../deadline.ts'
import { UpstreamError } from '../face/failure.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import type { EndpointHealth } from '../health/endpoint-health.ts'
import type { Lane } from '../health/quotas.ts'
import type { UpstreamLimits } from '../network/timeouts.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import type { EndpointLink, ExchangeRequest, ExchangeResponse, Link, Route } from './request.ts'

type Probed = Pick<Route, 'endpoint' | 'publicOnly'>

interface Parts {
  readonly health: Pick<EndpointHealth, 'admit' | 'failed' | 'probed' | 'readiness' | 'stateOf'>
  readonly limitsFor: (
    endpoint: Endpoint,
  ) => Pick<UpstreamLimits, 'connectTimeoutMs' | 'headersTimeoutMs'>
  readonly observer: Pick<UpstreamObserver, 'upstreamRequest' | 'unexpectedError'> | undefined
}

export class Prober {
  readonly #parts: Parts
  readonly #exchange: Link<ExchangeRequest, ExchangeResponse>

  constructor(parts: Parts, exchange: Link<ExchangeRequest, ExchangeResponse>) {
    this.#parts = parts
    this.#exchange = exchange
  }

  /** Finds out whether an endpoint answers, and records it. Never rejects. */
  async probe(probed: Probed): Promise<void> {
    const { health, observer } = this.#parts
    const { endpoint } = probed
    try {
      const failure = await this.#ping(probed)
      if (failure === undefined) health.probed(endpoint)
      else health.failed(endpoint, 'endpoint', failure)
    } catch (error) {
      observer?.unexpectedError?.('ask an upstream', error)
    }
  }

  /** Probes the endpoints that are due in the background, so that no request has to find out. */
  probeDue(routes: readonly Route[], lane: Lane): void {
    const { health } = this.#parts
    const endpoints = routes.map(({ endpoint }) => endpoint)
    for (const route of routes) {
      if (isProbedFirst(health, route.endpoint, endpoints, lane)) void this.#trial(route, lane)
    }
  }

  async #trial(route: Route, lane: Lane): Promise<void> {
    using _ = this.#parts.health.admit(route.endpoint, lane)
    await this.probe(route)
  }

  /** Resolves with undefined if the endpoint answers, even with 401, and else with the failure. */
  async #ping(probed: Probed): Promise<UpstreamError | undefined> {
    const { observer } = this.#parts
    const startedAt = performance.now()
    const failure = await this.#askRoot(probed)
    const seconds = (performance.now() - startedAt) / 1000
    const outcome = String(failure?.status ?? failure?.reason ?? 200)
    const { key: endpoint } = probed.endpoint
    observer?.upstreamRequest({ endpoint, method: 'GET', kind: 'ping', outcome, seconds })
    return failure
  }

  async #askRoot({ endpoint, publicOnly }: Probed): Promise<UpstreamError | undefined> {
    const { connectTimeoutMs, headersTimeoutMs } = this.#parts.limitsFor(endpoint)
    const signal = AbortSignal.timeout(connectTimeoutMs + headersTimeoutMs)
    const url = new URL(endpoint.base)
    url.pathname = `${endpoint.base.pathname}/`
    const request = { endpoint, publicOnly, url, method: 'GET', lane: 'metadata' } as const
    const anonymous = { credential: ANONYMOUS, identified: false }
    const { key } = endpoint
    try {
      const sent = this.#exchange({ ...request, ...anonymous }, signal)
      const { status, body } = await waitFor(sent, signal)
      body.discard()
      if (status < 500) return undefined
      const what = `${key}: server error (${status})`
      return new UpstreamError('server-error', what, { endpoint: key, status })
    } catch (error) {
      if (signal.aborted) {
        return new UpstreamError('timed-out', `${key}: no answer`, { endpoint: key })
      }
      if (error instanceof UpstreamError) return error
      throw error
    }
  }
}

/** Reports whether a probe should ask this endpoint before any request does: another one works. */
export function isProbedFirst(
  health: Pick<EndpointHealth, 'readiness' | 'stateOf'>,
  endpoint: Endpoint,
  all: readonly Endpoint[],
  lane: Lane,
): boolean {
  if (health.readiness(endpoint, lane) !== 'due') return false
  return all.some((other) => other !== endpoint && health.stateOf(other, lane) === 'ok')
}

/** A link: probes the other endpoints that are due, in the background. */
export function probeOthers(prober: Pick<Prober, 'probeDue'>, next: EndpointLink): EndpointLink {
  return async (request, signal) => {
    prober.probeDue(request.routes, request.operation.lane)
    return await next(request, signal)
  }
}
