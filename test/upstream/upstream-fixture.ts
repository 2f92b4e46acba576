// An Upstream over given endpoints with short time limits, and a record of what it reported.
import {
  ANONYMOUS,
  type Credential,
  type CredentialSource,
} from '../../src/upstream/credentials/credentials.ts'
import { RegistryClient, type ClientOptions } from '../../src/upstream/client/client.ts'
import type { DocumentRequest, RegistryResponse } from '../../src/upstream/client/request.ts'
import { normaliseEndpoint, type Endpoint } from '../../src/upstream/routing/endpoint.ts'
import { UpstreamError } from '../../src/upstream/face/failure.ts'
import type { UpstreamObserver } from '../../src/upstream/face/observer.ts'
import type { Requester } from '../../src/upstream/face/requester.ts'
import type { Rewrite } from '../../src/upstream/routing/rewrite.ts'
import { Upstream } from '../../src/upstream/upstream.ts'

export const REPO = { registry: 'registry.test', name: 'library/alpine' }

export const SHORT_LIMITS = {
  connectTimeoutMs: 900,
  headersTimeoutMs: 400,
  bodyStallMs: 400,
  tokenTimeoutMs: 900,
  documentTimeoutMs: 2000,
}

export interface Events {
  readonly requests: Parameters<UpstreamObserver['upstreamRequest']>[0][]
  readonly failures: UpstreamError[]
  readonly tokens: Parameters<UpstreamObserver['tokenRequest']>[0][]
  readonly redirects: { host: string; status: number }[]
  /** Errors that are Chandlery's own. */
  readonly faults: unknown[]
  bytes: number
}

/** A request for the repository `a`, anonymous unless it says otherwise. */
export type TestRequest = DocumentRequest & {
  readonly credential?: Credential
  readonly publicOnly?: boolean
}

export interface Fixture extends AsyncDisposable {
  readonly client: RegistryClient
  readonly upstream: Upstream
  readonly endpoints: readonly Endpoint[]
  readonly events: Events
  readonly requester: Requester
  /** Sends one request to the first endpoint. */
  send(request: TestRequest, signal?: AbortSignal): Promise<RegistryResponse>
}

export interface FixtureOptions extends Partial<ClientOptions> {
  readonly credential?: Credential
  readonly rewrites?: readonly Rewrite[]
}

export function endpointOf(url: string, rewrites: readonly Rewrite[] = []): Endpoint {
  return { ...normaliseEndpoint(url), isDefault: false, rewrites }
}

/** Always gives this credential. */
export function always(credential: Credential): CredentialSource {
  return { credentialFor: () => Promise.resolve(credential) }
}

export function upstreamOver(urls: readonly string[], options: FixtureOptions = {}): Fixture {
  const { credential = ANONYMOUS, rewrites = [], ...clientOptions } = options
  const events: Events = {
    requests: [],
    failures: [],
    tokens: [],
    redirects: [],
    faults: [],
    bytes: 0,
  }
  const observer = observing(events)
  const client = new RegistryClient({
    version: '1.2.3',
    instanceId: 'chandlery-test',
    limits: SHORT_LIMITS,
    observer,
    ...clientOptions,
  })
  const endpoints = urls.map((url) => endpointOf(url, rewrites))
  const upstream = new Upstream({
    registries: { endpoints: () => endpoints, names: [REPO.registry] },
    client,
  })
  const requester = { credentials: always(credential) }
  const dispose = () => client.close()
  const send: Fixture['send'] = (request, signal = new AbortController().signal) => {
    const session = { endpoint: endpoints[0]!, name: 'a', publicOnly: false, credential: ANONYMOUS }
    return client.chain.send({ ...session, ...request }, signal)
  }
  return { client, upstream, endpoints, events, requester, send, [Symbol.asyncDispose]: dispose }
}

function observing(events: Events): UpstreamObserver {
  return {
    upstreamRequest: (event) => void events.requests.push(event),
    upstreamBytes: (_endpoint, bytes) => void (events.bytes += bytes),
    upstreamFailure: (error) => void events.failures.push(error),
    tokenRequest: (event) => void events.tokens.push(event),
    upstreamRedirect: (event) => void events.redirects.push(event),
    unexpectedError: (_operation, error) => void events.faults.push(error),
  }
}

/** The UpstreamError a promise rejects with; fails when it does not. */
export async function failureOf(promise: Promise<unknown>): Promise<UpstreamError> {
  const outcome = await promise.then(
    () => new Error('it did not fail'),
    (error: unknown) => error,
  )
  if (outcome instanceof UpstreamError) return outcome
  throw outcome
}

export async function collect(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of body) chunks.push(chunk)
  return Buffer.concat(chunks)
}
