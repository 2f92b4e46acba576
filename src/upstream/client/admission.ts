// A link: lets a request through to an endpoint that works, and one at a time to an endpoint that
// may have recovered. Nothing else takes an admission for a request, so none can be leaked.
import type { Admission } from '../health/breaker.ts'
import type { EndpointHealth } from '../health/endpoint-health.ts'
import type { EndpointLink, EndpointRequest } from './request.ts'

/** The endpoint is down and was not asked. It is not a failure, and says nothing new about it. */
export class NotAdmitted extends Error {
  override readonly name = 'NotAdmitted'
}

interface Parts {
  readonly health: Pick<EndpointHealth, 'admit' | 'admitAfterTrial' | 'lastFailure' | 'lastResort'>
}

/**
 * Releases the admission when the outcome is known: when the operation has rejected, when it has
 * resolved, or, for a body that is still arriving, when that has ended.
 */
export function admission({ health }: Parts, next: EndpointLink): EndpointLink {
  return async (request, signal) => {
    const { endpoint } = request.route
    if (request.urgency === 'last-resort') {
      return await health.lastResort(endpoint, () => next(request, signal), signal)
    }
    using held = new DisposableStack()
    held.use(await admit(health, request, signal))
    const result = await next(request, signal)
    const { hold } = request.operation
    if (hold === undefined) return result
    const rest = held.move()
    return hold(result, () => rest.dispose())
  }
}

async function admit<T>(
  health: Parts['health'],
  { route: { endpoint }, operation: { lane }, urgency }: EndpointRequest<T>,
  signal: AbortSignal,
): Promise<Admission | undefined> {
  if (urgency === 'anyway') return health.admit(endpoint, lane)
  if (urgency === 'in-turn') {
    const admitted = health.admit(endpoint, lane)
    if (admitted === undefined) throw new NotAdmitted(`${endpoint.key} is down`)
    return admitted
  }
  const admitted = await health.admitAfterTrial(endpoint, lane, signal)
  const last = health.lastFailure(endpoint)
  if (admitted === undefined && last !== undefined) throw last
  return admitted
}
