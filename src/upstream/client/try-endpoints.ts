// A link: asks the endpoints in order, the next one on any failure. Those that are down are asked
// last. Of several failures the least final decides.
import type { UpstreamObserver } from '../face/observer.ts'
import { leastFinal, UpstreamError } from '../face/failure.ts'
import type { EndpointHealth } from '../health/endpoint-health.ts'
import { NotAsked } from '../health/not-asked.ts'
import { NotAdmitted } from './admission.ts'
import type { Prober } from './probe.ts'
import type { EndpointLink, Route, UpstreamLink } from './request.ts'

interface Parts {
  readonly health: Pick<EndpointHealth, 'lastFailure'>
  readonly observer: Pick<UpstreamObserver, 'upstreamFailure'> | undefined
}

export function tryEndpoints(
  { health, observer }: Parts,
  prober: Pick<Prober, 'probeDue'>,
  next: EndpointLink,
): UpstreamLink {
  return async (request, signal) => {
    const { routes, operation } = request
    const known = new Set(routes.map(({ endpoint }) => health.lastFailure(endpoint)))
    const failures: UpstreamError[] = []
    const note = (error: unknown) => {
      signal.throwIfAborted()
      if (!(error instanceof UpstreamError)) throw error
      failures.push(error)
      if (!isNews(error) || known.has(error)) return
      observer?.upstreamFailure(error, { kind: operation.kind })
    }
    prober.probeDue(routes, operation.lane)
    const down: Route[] = []
    for (const route of routes) {
      try {
        return await next({ ...request, route, urgency: 'in-turn' }, signal)
      } catch (error) {
        if (error instanceof NotAdmitted) down.push(route)
        else note(error)
      }
    }
    for (const route of down) {
      // Once another endpoint has given a final answer, an endpoint that is down is asked only if it
      // has recovered: else every request for what does not exist would wait for that endpoint.
      const urgency = failures.some(isFinal) ? 'recovered' : 'last-resort'
      try {
        return await next({ ...request, route, urgency }, signal)
      } catch (error) {
        note(error)
      }
    }
    throw leastFinal(failures)
  }
}

/**
 * Reports whether a failure is worth telling: a 404 is an answer, and NotAsked repeats an older
 * one.
 */
function isNews(error: UpstreamError): boolean {
  return error.kind !== 'gone' && !(error instanceof NotAsked)
}

/** Reports whether the endpoint would answer the same the next time. */
function isFinal({ kind }: UpstreamError): boolean {
  return kind !== 'unavailable' && kind !== 'rate-limited'
}
