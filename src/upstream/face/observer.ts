// What this room reports about itself. observability/ implements it, and app/ joins the two.
import type { UpstreamError } from './failure.ts'

/** What goes over the network. */
export interface TrafficObserver {
  /**
   * One HTTP exchange; redirects are separate ones. `outcome` is a status code or a FailureReason.
   */
  upstreamRequest(event: {
    endpoint: string
    method: string
    kind: string
    outcome: string
    seconds: number
  }): void
  /** Bytes of bodies, by what was asked for. */
  upstreamBytes(endpoint: string, bytes: number, kind: string): void
  /** `realm` is a host[:port]. */
  tokenRequest(event: {
    realm: string
    outcome: 'ok' | 'refused' | 'failed'
    seconds: number
  }): void
  /** A redirect that is followed, for the log. `host` is the target's host[:port]. */
  upstreamRedirect?(event: { endpoint: string; host: string; status: number }): void
}

/** What goes wrong. */
export interface TroubleObserver {
  /**
   * An endpoint did not give a document, or gave a wrong one; another endpoint may have helped. Not
   * called for 404, nor for blobs: downloads report those, because they try again.
   */
  upstreamFailure(error: UpstreamError, context: { kind: string }): void
  /**
   * The state of an endpoint changed. `former` is the last state that was not half-open, so that a
   * trial that changes nothing looks like no change. `message` is the failure that led to the state.
   */
  endpointState?(event: {
    endpoint: string
    state: EndpointState
    former: EndpointState
    message: string | undefined
  }): void
  /**
   * An error of our own: a bug, or a resource that ran out. A caller that gets it reports it again.
   */
  unexpectedError?(operation: string, error: unknown): void
}

export interface UpstreamObserver extends TrafficObserver, TroubleObserver {}

export type EndpointState = 'ok' | 'open' | 'half-open' | 'limited'
