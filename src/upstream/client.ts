// One request to one endpoint: authorisation, redirects, guards, limits, observation. What the
// content is worth (digests, pages) is not known here.
import { performance } from 'node:perf_hooks'

import { withCdnLoop } from '../http/cdn-loop.ts'
import { Authorizer } from './authorizer.ts'
import type { Grant } from './authorizer.ts'
import type { Credential } from './credentials.ts'
import { diagnoseAnswer } from './diagnose.ts'
import type { Asked } from './diagnose.ts'
import { diagnoseNetwork } from './diagnose-network.ts'
import { nameOnWire } from './endpoint.ts'
import type { Endpoint } from './endpoint.ts'
import type { Headers } from './exchange.ts'
import { UpstreamError } from './failure.ts'
import { DEFAULT_LIMITS } from './limits.ts'
import type { UpstreamLimits } from './limits.ts'
import type { UpstreamObserver } from './observer.ts'
import { readStart } from './read-body.ts'
import { RedirectRefused, redirectTarget } from './redirect.ts'
import type { GrantedBy } from './source.ts'
import { Transport } from './transport.ts'
import type { Answer, HostOptions } from './transport.ts'

export interface RegistryRequest {
  readonly method: 'GET' | 'HEAD'
  /** The repository's name AFTER rewrite. */
  readonly name: string
  /** "manifests/latest", "blobs/sha256:…", "tags/list" */
  readonly path: string
  /** Raw, without "?". */
  readonly query?: string | undefined
  readonly accept?: string | undefined
  readonly range?: string | undefined
  readonly credential: Credential
  readonly signal?: AbortSignal | undefined
  readonly kind: 'manifest' | 'blob' | 'tags' | 'referrers'
}

export interface RegistryResponse {
  readonly status: number
  readonly headers: Headers
  /** What answered, after redirects. May hold a signature: its query is not for logs. */
  readonly url: URL
  /** Must be read to its end or discarded. Throws UpstreamError when it ends early or stalls. */
  readonly body: AsyncIterable<Uint8Array> & { discard(): void }
  /** Whether the registry asked for our credential to give this. */
  readonly grantedBy: GrantedBy
}

export interface ClientOptions {
  /** Ours, for User-Agent. */
  readonly version: string
  /** This process's name in CDN-Loop (RFC 8586): how a request that comes back is known. */
  readonly instanceId: string
  /** The `configs`, by host[:port]. */
  readonly hosts?: Readonly<Record<string, HostOptions>>
  readonly observer?: UpstreamObserver | undefined
  readonly limits?: Partial<UpstreamLimits>
  readonly now?: () => number
}

/** A request on its way. */
interface Call {
  readonly endpoint: Endpoint
  readonly request: RegistryRequest
  readonly url: URL
}

/** What answered in the end, redirects followed. */
interface Reached extends Answer {
  readonly url: URL
}

const MAX_HOPS = 10
/** Tokens fetched for one request: with the first challenge, and once more if that was refused. */
const MAX_CHALLENGES = 2
const ERROR_BODY_BYTES = 64 * 1024

export class RegistryClient {
  readonly #transport: Transport
  readonly #authorizer: Authorizer
  readonly #observer: UpstreamObserver | undefined
  readonly #headers: Readonly<Record<string, string>>
  readonly #now: () => number

  constructor(options: ClientOptions) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits }
    this.#observer = options.observer
    this.#now = options.now ?? Date.now
    this.#headers = {
      'user-agent': `chandlery/${options.version}`,
      'cdn-loop': withCdnLoop(undefined, options.instanceId),
      // Digests are over the bytes as they are.
      'accept-encoding': 'identity',
    }
    this.#transport = new Transport(options.hosts ?? {}, limits)
    this.#authorizer = new Authorizer({
      transport: this.#transport,
      headers: this.#headers,
      observer: options.observer,
      timeoutMs: limits.tokenTimeoutMs,
      now: this.#now,
    })
  }

  /** Resolves for 2xx and 416. Throws UpstreamError for all else, or the signal's reason. */
  async request(endpoint: Endpoint, request: RegistryRequest): Promise<RegistryResponse> {
    try {
      return await this.#perform({ endpoint, request, url: requestUrl(endpoint, request) })
    } catch (error) {
      request.signal?.throwIfAborted()
      if (error instanceof UpstreamError) this.#reportFailure(error, request)
      throw error
    }
  }

  /** Breaks off what is running. */
  async close(): Promise<void> {
    await this.#transport.close()
  }

  async #perform(call: Call): Promise<RegistryResponse> {
    const asker = {
      endpoint: call.endpoint,
      name: nameOnWire(call.endpoint, call.request.name),
      credential: call.request.credential,
      signal: call.request.signal,
    }
    let grant = await this.#authorizer.recall(asker)
    let challenges = 0
    let storageRetried = false
    for (;;) {
      const reached = await this.#follow(call, grant)
      const redirected = reached.url.origin !== call.url.origin
      if (reached.status === 401 && !redirected && challenges++ < MAX_CHALLENGES) {
        const next = await this.#authorizer.answer(
          reached.headers['www-authenticate'],
          asker,
          grant,
        )
        if (next !== undefined) {
          reached.body.discard()
          grant = next
          continue
        }
      } else if (isRefused(reached) && redirected && !storageRetried) {
        // A signed URL may have expired on the way: the registry is asked for a fresh one.
        storageRetried = true
        reached.body.discard()
        continue
      }
      return await this.#conclude(call, reached, grant)
    }
  }

  async #conclude(
    call: Call,
    reached: Reached,
    grant: Grant | undefined,
  ): Promise<RegistryResponse> {
    const { status, headers, url, body } = reached
    const isContent = (status >= 200 && status < 300) || status === 416
    if (!isContent) {
      const text = await readStart(body, ERROR_BODY_BYTES)
      call.request.signal?.throwIfAborted()
      throw diagnoseAnswer({ status, headers, body: text }, asked(call, url, grant), this.#now())
    }
    const encoding = headers['content-encoding']
    if (encoding !== undefined && encoding !== 'identity') {
      body.discard()
      const what = `${url.host} sends Content-Encoding ${JSON.stringify(encoding)} although asked for identity`
      throw failure(call, 'protocol', what)
    }
    const isOurs = grant !== undefined && call.request.credential.kind !== 'anonymous'
    return { status, headers, url, body, grantedBy: isOurs ? 'credential' : 'anonymous' }
  }

  async #follow(call: Call, grant: Grant | undefined): Promise<Reached> {
    let url = call.url
    let authorization = grant?.header
    for (let hop = 0; hop <= MAX_HOPS; hop++) {
      const answer = await this.#send(call, url, grant, authorization)
      const next = nextHop(call, answer, url)
      if (next === undefined) return { ...answer, url }
      answer.body.discard()
      this.#observer?.upstreamRedirect?.({
        endpoint: call.endpoint.key,
        host: next.host,
        status: answer.status,
      })
      // Once left behind it stays behind: the other host must not choose what we ask with it.
      if (next.origin !== url.origin) authorization = undefined
      url = next
    }
    throw failure(call, 'redirect-refused', `more than ${MAX_HOPS} redirects`)
  }

  async #send(
    call: Call,
    url: URL,
    grant: Grant | undefined,
    authorization: string | undefined,
  ): Promise<Answer> {
    const startedAt = performance.now()
    const who = asked(call, url, grant)
    const report = (outcome: string) => {
      const seconds = (performance.now() - startedAt) / 1000
      const { method, kind } = call.request
      this.#observer?.upstreamRequest({ endpoint: who.endpoint, method, kind, outcome, seconds })
    }
    try {
      const answer = await this.#exchange(call, url, who, authorization)
      report(String(answer.status))
      return answer
    } catch (error) {
      call.request.signal?.throwIfAborted()
      const failed = diagnoseNetwork(asError(error), who, 'head')
      report(failed.reason)
      throw failed
    }
  }

  #exchange(call: Call, url: URL, who: Asked, authorization: string | undefined): Promise<Answer> {
    const { method, accept, range, kind, signal } = call.request
    const isOwn = url.origin === call.endpoint.base.origin
    return this.#transport.send(
      {
        url,
        method,
        host: who.host,
        headers: {
          ...this.#headers,
          ...(accept !== undefined && { accept }),
          ...(range !== undefined && { range }),
          ...(authorization !== undefined && { authorization }),
        },
        reach: isOwn
          ? reachOf(call.endpoint)
          : this.#transport.reachFrom(call.endpoint.base.origin),
        lane: kind === 'blob' && method === 'GET' ? 'content' : 'rest',
      },
      {
        signal,
        translate: (error) => this.#bodyFailure(call, error, who),
        onBytes: (bytes) => this.#observer?.upstreamBytes(call.endpoint.key, bytes),
      },
    )
  }

  #bodyFailure(call: Call, error: Error, who: Asked): UpstreamError {
    const failed = diagnoseNetwork(error, who, 'body')
    this.#reportFailure(failed, call.request)
    return failed
  }

  /** That something is not there is an answer, not a failure. */
  #reportFailure(error: UpstreamError, request: RegistryRequest): void {
    if (error.kind !== 'gone') this.#observer?.upstreamFailure(error, { kind: request.kind })
  }
}

function requestUrl(endpoint: Endpoint, request: RegistryRequest): URL {
  const url = new URL(endpoint.base)
  url.pathname = `${endpoint.base.pathname}/${request.name}/${request.path}`
  url.search = request.query ?? ''
  return url
}

function nextHop(call: Call, answer: Answer, url: URL): URL | undefined {
  try {
    return redirectTarget(answer, url)
  } catch (error) {
    answer.body.discard()
    if (error instanceof RedirectRefused) throw failure(call, 'redirect-refused', error.message)
    throw error
  }
}

function asked(call: Call, url: URL, grant: Grant | undefined): Asked {
  const redirected = url.origin !== call.endpoint.base.origin
  return {
    endpoint: call.endpoint.key,
    url,
    host: redirected ? url.host : call.endpoint.host,
    redirected,
    credential: call.request.credential.kind,
    identified: grant?.scheme === 'bearer',
  }
}

function reachOf(endpoint: Endpoint & { readonly publicOnly?: boolean }): 'any' | 'public' {
  return endpoint.publicOnly === true ? 'public' : 'any'
}

function failure(call: Call, reason: UpstreamError['reason'], what: string): UpstreamError {
  return new UpstreamError(reason, `${call.endpoint.key}: ${what}`, { endpoint: call.endpoint.key })
}

function isRefused(answer: Answer): boolean {
  return answer.status === 401 || answer.status === 403
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
