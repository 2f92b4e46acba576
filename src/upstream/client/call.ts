// One request on its way to an endpoint: its single HTTP exchanges, redirects followed by hand,
// each observed. Authorisation is given to it; what the last answer is worth is the client's.
import { performance } from 'node:perf_hooks'

import { withCdnLoop } from '../../http/cdn-loop.ts'
import type { Reach } from '../address/addresses.ts'
import type { Grant } from '../auth/authorizer.ts'
import type { Asked } from '../diagnosis/answer.ts'
import { diagnoseNetwork } from '../diagnosis/network.ts'
import type { EndpointHealth, Part } from '../health/endpoint-health.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { UpstreamError } from '../face/failure.ts'
import type { FailureReason } from '../face/failure.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import type { Lane } from '../health/quotas.ts'
import { RedirectRefused, redirectTarget } from '../network/redirect.ts'
import type { Answer, Transport } from '../network/transport.ts'
import type { RegistryRequest } from './request.ts'

export interface CallOptions {
  readonly transport: Transport
  /** Sent with every exchange. */
  readonly headers: Readonly<Record<string, string>>
  /** Ours in CDN-Loop. */
  readonly instanceId: string
  readonly health: EndpointHealth
  readonly observer?: UpstreamObserver | undefined
}

/** What answered in the end. */
export interface Reached extends Answer {
  readonly url: URL
  /** It is not the endpoint that answered. */
  readonly redirected: boolean
}

const MAX_HOPS = 10

export class Call {
  readonly endpoint: Endpoint
  readonly request: RegistryRequest
  /** Where the endpoint itself may be. */
  readonly reach: Reach
  /** Content and everything else go apart: connections, limits, failures. */
  readonly lane: Lane
  readonly #options: CallOptions
  #isAway = false

  constructor(options: CallOptions, endpoint: Endpoint, request: RegistryRequest) {
    this.#options = options
    this.endpoint = endpoint
    this.request = request
    this.reach = request.publicOnly === true ? 'public' : 'any'
    this.lane = request.kind === 'blob' && request.method === 'GET' ? 'content' : 'metadata'
  }

  /** Who was asked last, for whoever is to blame. */
  get part(): Part {
    return this.#isAway && this.lane === 'content' ? 'content' : 'endpoint'
  }

  /**
   * Asks the endpoint, and on where it redirects to. Throws UpstreamError, the signal's reason, or
   * an error that is ours.
   */
  async follow(grant: Grant | undefined): Promise<Reached> {
    let url = this.#url()
    let authorization = grant?.header
    for (let hop = 0; hop <= MAX_HOPS; hop++) {
      const answer = await this.#send(url, grant, authorization)
      const next = this.#nextHop(answer, url)
      if (next === undefined) return { ...answer, url, redirected: !this.#isOwn(url) }
      answer.body.discard()
      const { key: endpoint } = this.endpoint
      this.#options.observer?.upstreamRedirect?.({
        endpoint,
        host: next.host,
        status: answer.status,
      })
      // Once left behind it stays behind: the other host must not choose what we ask with it.
      if (next.origin !== url.origin) authorization = undefined
      url = next
    }
    throw this.failure('redirect-refused', `more than ${MAX_HOPS} redirects`)
  }

  /** Who is asked at a URL, for a diagnosis. */
  asked(url: URL, grant: Grant | undefined): Asked {
    const isOwn = this.#isOwn(url)
    return {
      endpoint: this.endpoint.key,
      url,
      host: isOwn ? this.endpoint.host : url.host,
      authHost: this.endpoint.host,
      redirected: !isOwn,
      forToken: false,
      credential: this.request.credential.kind,
      identified: grant?.scheme === 'bearer',
    }
  }

  failure(reason: FailureReason, what: string): UpstreamError {
    const { key } = this.endpoint
    return new UpstreamError(reason, `${key}: ${what}`, { endpoint: key })
  }

  #url(): URL {
    const { base } = this.endpoint
    const url = new URL(base)
    url.pathname = `${base.pathname}/${this.request.name}/${this.request.path}`
    url.search = this.request.query ?? ''
    return url
  }

  #isOwn(url: URL): boolean {
    return url.origin === this.endpoint.base.origin
  }

  #nextHop(answer: Answer, url: URL): URL | undefined {
    try {
      return redirectTarget(answer, url)
    } catch (error) {
      answer.body.discard()
      if (error instanceof RedirectRefused) throw this.failure('redirect-refused', error.message)
      throw error
    }
  }

  async #send(
    url: URL,
    grant: Grant | undefined,
    authorization: string | undefined,
  ): Promise<Answer> {
    const startedAt = performance.now()
    const asked = this.asked(url, grant)
    this.#isAway = asked.redirected
    try {
      const answer = await this.#exchange(url, asked, authorization)
      this.#reportExchange(String(answer.status), startedAt)
      if (!asked.redirected) {
        this.#options.health.recordLatency(this.endpoint, performance.now() - startedAt)
      }
      this.#readLimits(answer)
      return answer
    } catch (error) {
      const { signal } = this.request
      if (signal?.reason instanceof UpstreamError) {
        this.#reportExchange(signal.reason.reason, startedAt)
      }
      signal?.throwIfAborted()
      const failed = diagnoseNetwork(error, asked, 'head')
      if (failed === undefined) throw error
      this.#reportExchange(failed.reason, startedAt)
      throw failed
    }
  }

  #exchange(url: URL, asked: Asked, authorization: string | undefined): Promise<Answer> {
    const { method, accept, range, cdnLoop, signal, kind } = this.request
    const { transport, observer, headers, instanceId } = this.#options
    const { key, base } = this.endpoint
    return transport.send(
      {
        url,
        method,
        host: asked.host,
        via: this.endpoint.host,
        headers: {
          ...headers,
          ...(cdnLoop !== undefined && { 'cdn-loop': withCdnLoop(cdnLoop, instanceId) }),
          ...(accept !== undefined && { accept }),
          ...(range !== undefined && { range }),
          ...(authorization !== undefined && { authorization }),
        },
        reach: this.#isOwn(url) ? this.reach : transport.reachFrom(base.origin, this.reach),
        lane: this.lane,
      },
      {
        signal,
        translate: (error) => diagnoseNetwork(error, asked, 'body') ?? error,
        onBytes: (bytes) => observer?.upstreamBytes(key, bytes, kind),
      },
    )
  }

  /** Of the registry's own answers to who we are: a challenge is to nobody. */
  #readLimits({ status, headers }: Answer): void {
    if (this.#isAway || status === 401) return
    this.#options.health.rateLimits.read(this.endpoint, this.request.credential, headers)
  }

  #reportExchange(outcome: string, startedAt: number): void {
    const { method, kind } = this.request
    const seconds = (performance.now() - startedAt) / 1000
    const { key: endpoint } = this.endpoint
    this.#options.observer?.upstreamRequest({ endpoint, method, kind, outcome, seconds })
  }
}
