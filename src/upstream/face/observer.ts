// What this room reports about itself; observability/ implements it, main joins the two.
import type { UpstreamError } from './failure.ts'

export interface UpstreamObserver {
  /** One HTTP exchange, redirects each on their own; `outcome` is a status code or a FailureReason. */
  upstreamRequest(event: {
    endpoint: string
    method: string
    kind: string
    outcome: string
    seconds: number
  }): void
  /** Bytes of bodies, by what was asked for. */
  upstreamBytes(endpoint: string, bytes: number, kind: string): void
  /**
   * An endpoint did not give a document that was asked of it, or gave a wrong one; another may have
   * helped out. Not that it is not there, and no blobs: their readers try again, and tell.
   */
  upstreamFailure(error: UpstreamError, context: { kind: string }): void
  /** `realm` is a host[:port]. */
  tokenRequest(event: {
    realm: string
    outcome: 'ok' | 'refused' | 'failed'
    seconds: number
  }): void
  /** A redirect that is followed, for the log: `host` is the target's host[:port]. */
  upstreamRedirect?(event: { endpoint: string; host: string; status: number }): void
  /**
   * The state of an endpoint changed. `former`: the last one that was not half-open, so that a trial
   * that changes nothing looks like it. `message`: the failure that led to the new state.
   */
  endpointState?(event: {
    endpoint: string
    state: EndpointState
    former: EndpointState
    message: string | undefined
  }): void
  /** An error that is ours: a bug, or a resource that ran out. Callers that are told report it again. */
  unexpectedError?(operation: string, error: unknown): void
}

export type EndpointState = 'ok' | 'open' | 'half-open' | 'limited'
