// A link: does not ask an endpoint that told us to wait. It would answer the same, and may count the
// request.
import type { EndpointHealth } from '../health/endpoint-health.ts'
import { NotAsked } from '../health/not-asked.ts'
import type { CredentialLink } from './request.ts'

interface Parts {
  readonly health: Pick<EndpointHealth, 'checkPause' | 'rateLimits'>
}

/** Rejects with NotAsked. */
export function respectLimits({ health }: Parts, next: CredentialLink): CredentialLink {
  return async (request, signal) => {
    const { route, credential, operation } = request
    const { endpoint } = route
    const { rateLimits } = health
    health.checkPause(endpoint, operation.lane)
    const ms = rateLimits.waitMs(endpoint, credential, operation.lane)
    const isGuess = rateLimits.isGuess(endpoint, credential, operation.lane)
    if (ms > 0) throw new NotAsked(endpoint, { ms, isGuess })
    return await next(request, signal)
  }
}
