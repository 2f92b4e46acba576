// What passes along the chain, from its top (chain.ts) to its bottom, and what comes back. Each
// level has what the level above it has, and what the link in between added.
import type { Reach } from '../address/addresses.ts'
import type { Grant } from '../auth/authorizer.ts'
import type { Credential } from '../credentials/credentials.ts'
import type { Asked } from '../diagnosis/answer.ts'
import type { Requester } from '../face/requester.ts'
import type { GrantedBy } from '../face/source.ts'
import type { Lane } from '../health/quotas.ts'
import type { Headers } from '../../http/headers.ts'
import type { BodyEnd } from '../network/body-stream.ts'
import type { Endpoint } from '../routing/endpoint.ts'

/**
 * One link of the chain. It does its part and passes the request on to the next link. It rejects
 * with an UpstreamError, with the signal's reason, or with an error of our own, which every link
 * lets through as it is.
 */
export type Link<Request, Response> = (request: Request, signal: AbortSignal) => Promise<Response>

// The upper half: an operation (a document, or the content of a blob) is performed at an endpoint.

/** Where a repository can be asked for. */
export interface Route {
  readonly endpoint: Endpoint
  /** The repository's name there, after rewrites. */
  readonly name: string
  /** A client named the endpoint ("*" in mirrors): only public addresses may be connected to. */
  readonly publicOnly: boolean
}

/**
 * What is done at an endpoint. It may take several requests (HEAD, then GET; all pages of a list).
 */
export interface Operation<T> {
  readonly kind: DocumentRequest['kind']
  readonly lane: Lane
  readonly perform: (session: EndpointSession, signal: AbortSignal) => Promise<T>
  /**
   * For results whose outcome is known only later: returns the same result, and calls `release` once
   * its body has ended or is no longer wanted. `release` may be called any number of times.
   */
  readonly hold?: (result: T, release: () => void) => T
}

export interface UpstreamRequest<T> {
  readonly operation: Operation<T>
  /** At least one, in the order of the configuration. */
  readonly routes: readonly Route[]
  readonly requester: Requester
}

/**
 * How much depends on this endpoint. `in-turn`: others can help. `recovered`: it may be asked only
 * if it has recovered. `last-resort`: no other endpoint has helped. `anyway`: the caller has decided.
 */
export type Urgency = 'in-turn' | 'recovered' | 'last-resort' | 'anyway'

export interface EndpointRequest<T> extends UpstreamRequest<T> {
  readonly route: Route
  readonly urgency: Urgency
}

export interface CredentialRequest<T> extends EndpointRequest<T> {
  readonly credential: Credential
}

export type UpstreamLink = <T>(request: UpstreamRequest<T>, signal: AbortSignal) => Promise<T>
export type EndpointLink = <T>(request: EndpointRequest<T>, signal: AbortSignal) => Promise<T>
export type CredentialLink = <T>(request: CredentialRequest<T>, signal: AbortSignal) => Promise<T>

/** One endpoint as one requester sees it, for the requests of an operation. */
export interface EndpointSession extends Route {
  readonly credential: Credential
  /** The CDN-Loop (RFC 8586) of the request behind this one. */
  readonly cdnLoop?: string | undefined
  readonly send: Link<RegistryRequest, RegistryResponse>
}

// The lower half: one request to a registry, and the HTTP exchanges that it takes.

export interface DocumentRequest {
  readonly method: 'GET' | 'HEAD'
  /** "manifests/latest", "blobs/sha256:…", "tags/list" */
  readonly path: string
  /** Raw, without "?". */
  readonly query?: string | undefined
  readonly accept?: string | undefined
  readonly range?: string | undefined
  readonly kind: 'manifest' | 'blob' | 'tags' | 'referrers'
}

export interface RegistryRequest extends DocumentRequest, Omit<EndpointSession, 'send'> {}

export interface TracedRequest extends RegistryRequest {
  /** Every URL that was asked so far, as in the Fetch standard: links append to it. */
  readonly urlList: URL[]
}

export interface AuthorizedRequest extends TracedRequest {
  readonly grant: Grant | undefined
}

/** One HTTP exchange. */
export interface ExchangeRequest extends Pick<
  RegistryRequest,
  'endpoint' | 'publicOnly' | 'method' | 'accept' | 'range' | 'credential' | 'cdnLoop'
> {
  readonly url: URL
  readonly lane: Lane
  /** The Authorization header. */
  readonly authorization?: string | undefined
  /** A token server accepted our credential, so a refusal is about what was asked for. */
  readonly identified: boolean
  /** Is told how many bytes of the body have arrived since the last call. */
  readonly onBytes?: ((bytes: number) => void) | undefined
}

/** Must be read to its end or discarded. Throws an UpstreamError if it ends early or stalls. */
export interface ResponseBody extends AsyncIterable<Uint8Array> {
  discard(): void
  /** Resolves before the reader learns of the end. Never rejects. */
  readonly ended: Promise<BodyEnd>
}

export interface ExchangeResponse {
  readonly status: number
  readonly headers: Headers
  readonly body: ResponseBody
  /** Who answered. */
  readonly asked: Asked
}

/** The answer at the end of all redirects. */
export interface ReachedResponse extends ExchangeResponse {
  /** When the request that led to it was sent, in milliseconds since 1970. */
  readonly sentAtMs: number
}

export interface RegistryResponse extends Omit<ReachedResponse, 'asked'> {
  /** What answered, after redirects. The query may hold a signature: keep it out of logs. */
  readonly url: URL
  /** Whether the registry asked for our credential to give this. */
  readonly grantedBy: GrantedBy
}

/**
 * Returns the lane of a request: content and metadata have separate connections, limits and health.
 */
export function laneOf({ kind, method }: Pick<DocumentRequest, 'kind' | 'method'>): Lane {
  return kind === 'blob' && method === 'GET' ? 'content' : 'metadata'
}

/** Returns which addresses the endpoint may have. */
export function reachOf({ publicOnly }: Pick<Route, 'publicOnly'>): Reach {
  return publicOnly ? 'public' : 'any'
}

/** Reports whether a URL is the endpoint's own, not one that it redirected to. */
export function isOwnUrl({ base }: Endpoint, url: URL): boolean {
  return url.origin === base.origin
}
