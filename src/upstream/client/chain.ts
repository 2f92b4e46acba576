// The way to an upstream, composed of links that each do one thing. A request passes them from top
// to bottom, and its response from bottom to top:
//
//   documents: all endpoints, until one has           content: one endpoint, and a body that is
//   given the whole document                          still arriving when the chain has returned
//   ─────────────────────────────────────────         ──────────────────────────────────────────
//   tryEndpoints    the next one on any failure
//   withDeadline    for all of one endpoint
//   admission       leaves out who is down            admission    holds a trial until the body ends
//                                                     probeOthers  in the background
//   ───────────────────────────────────── the same for both ────────────────────────────────────
//   untilAborted    releases a caller that leaves, and the admission
//   tryCredentials  the next one on a refusal
//   respectLimits   leaves out who told us to wait
//   perform         the operation: one or more requests, and what is read from their answers
//
//   ─────────────────────────────────── each of these requests ──────────────────────────────────
//   recordOutcome   in the endpoint's health; reports errors of our own
//   authorization   answers challenges; refusals become upstream errors
//   redirects       followed by hand
//   measure         metrics, latency, quotas
//   exchange        one HTTP exchange; network errors become upstream errors, here alone
//
// A link cannot be called without a signal. An error that is not an UpstreamError is our own: it
// passes all links, ends the request and counts against nobody.
import type { Authorizer } from '../auth/authorizer.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import type { EndpointHealth } from '../health/endpoint-health.ts'
import type { UpstreamLimits } from '../network/timeouts.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { admission } from './admission.ts'
import { authorization } from './authorization.ts'
import { measure } from './measure.ts'
import { perform } from './perform.ts'
import { Prober, probeOthers } from './probe.ts'
import { recordOutcome } from './record-outcome.ts'
import { redirects } from './redirects.ts'
import type {
  EndpointLink,
  ExchangeRequest,
  ExchangeResponse,
  Link,
  RegistryRequest,
  RegistryResponse,
  UpstreamLink,
} from './request.ts'
import { respectLimits } from './respect-limits.ts'
import { tryCredentials } from './try-credentials.ts'
import { tryEndpoints } from './try-endpoints.ts'
import { untilAborted, withDeadline } from './with-deadline.ts'

/** What the links share. */
export interface ChainParts {
  readonly health: EndpointHealth
  readonly authorizer: Pick<Authorizer, 'recall' | 'answer'>
  readonly limitsFor: (endpoint: Endpoint) => UpstreamLimits
  readonly observer: UpstreamObserver | undefined
  /** The time in milliseconds since 1970. */
  readonly now: () => number
}

export interface Chain {
  /** The operation reads the whole document before it resolves. */
  readonly documents: UpstreamLink
  /** The operation resolves with a body that is still arriving. */
  readonly content: EndpointLink
  /** One request to a registry, for operations. */
  readonly send: Link<RegistryRequest, RegistryResponse>
  readonly prober: Prober
}

/** `exchange` is the last link. */
export function createChain(
  parts: ChainParts,
  exchange: Link<ExchangeRequest, ExchangeResponse>,
): Chain {
  // Each link is given the one that follows it.
  const prober = new Prober(parts, exchange)
  const send = recordOutcome(
    parts,
    authorization(parts, redirects(parts, measure(parts, exchange))),
  )
  const atEndpoint = untilAborted(tryCredentials(parts, respectLimits(parts, perform(send))))
  const documents = tryEndpoints(parts, prober, withDeadline(parts, admission(parts, atEndpoint)))
  const content = admission(parts, probeOthers(prober, atEndpoint))
  return { documents, content, send, prober }
}
