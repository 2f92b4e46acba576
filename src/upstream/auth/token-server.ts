// Fetches one token from a token server: the kinds of request in turn, redirects, bounds.
import { performance } from 'node:perf_hooks'

import type { Reach } from '../address/addresses.ts'
import { diagnoseAnswer, isHtml } from '../diagnosis/answer.ts'
import type { Asked } from '../diagnosis/answer.ts'
import { diagnoseNetwork } from '../diagnosis/network.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { UpstreamError } from '../face/failure.ts'
import { AddressRefused } from '../address/lookup.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import { readStart, readWhole } from '../network/read-body.ts'
import { checkRealm, isListed, RealmRefused } from './realm.ts'
import { RedirectRefused, redirectTarget } from '../network/redirect.ts'
import { isWorthAnotherWay, readToken, tokenMessages } from './token.ts'
import type { Token, TokenMessage, TokenRequest } from './token.ts'
import type { Answer, Transport } from '../network/transport.ts'

export interface TokenServerOptions {
  readonly transport: Transport
  /** Sent with every request. */
  readonly headers: Readonly<Record<string, string>>
  readonly observer?: UpstreamObserver | undefined
  readonly now: () => number
}

/** The endpoint whose challenge named the token server. */
export interface Challenger {
  readonly endpoint: Endpoint
  /** Which addresses the endpoint may have. */
  readonly reach: Reach
}

const MAX_HOPS = 5
const MAX_BYTES = 64 * 1024

/**
 * Fetches a token for the endpoint. Rejects with an UpstreamError (realm-refused, token-refused,
 * protocol, or a failure of the network), or with an error of our own.
 */
export async function fetchToken(
  options: TokenServerOptions,
  challenger: Challenger,
  request: TokenRequest,
): Promise<Token> {
  const startedAt = performance.now()
  const report = (outcome: 'ok' | 'refused' | 'failed') => {
    const seconds = (performance.now() - startedAt) / 1000
    options.observer?.tokenRequest({ realm: request.realm.host, outcome, seconds })
  }
  try {
    const token = await askInEveryWay(new Conversation(options, challenger, request))
    report('ok')
    return token
  } catch (error) {
    if (error instanceof UpstreamError) report(error.kind === 'denied' ? 'refused' : 'failed')
    throw error
  }
}

async function askInEveryWay(conversation: Conversation): Promise<Token> {
  const ways = tokenMessages(conversation.request)
  for (const [index, way] of ways.entries()) {
    const answer = await conversation.ask(way)
    if (answer.status === 200) return await conversation.readToken(answer)
    const refused = await conversation.refusal(answer)
    const isLast = index === ways.length - 1
    if (isLast || !isWorthAnotherWay(answer.status, way)) throw refused
  }
  throw new Error('a token request has at least one way')
}

/** What the requests for one token share. */
class Conversation {
  readonly request: TokenRequest
  readonly #options: TokenServerOptions
  readonly #endpoint: Endpoint
  readonly #ownReach: Reach
  readonly #signal: AbortSignal

  constructor(options: TokenServerOptions, challenger: Challenger, request: TokenRequest) {
    const { endpoint, reach } = challenger
    this.#options = options
    this.#endpoint = endpoint
    this.#ownReach = reach
    this.request = request
    const asked = { host: this.#hostKey(request.realm), via: endpoint.host }
    // For one token as a whole: redirects and all kinds of request included.
    this.#signal = AbortSignal.timeout(options.transport.limitsFor(asked).tokenTimeoutMs)
    this.#guard(() => checkRealm(request.realm, endpoint, request.credential))
  }

  /** Follows redirects of GET only: a form with our password is sent nowhere else. */
  async ask(message: TokenMessage): Promise<Answer> {
    let { url, authorization } = message
    for (let hop = 0; hop <= MAX_HOPS; hop++) {
      const answer = await this.#send(url, message, authorization)
      const next = this.#nextHop(answer, url)
      if (next === undefined || message.method === 'POST') return answer
      answer.body.discard()
      if (next.origin !== url.origin) authorization = undefined
      url = next
    }
    throw this.#failure('token-refused', `more than ${MAX_HOPS} redirects at its token server`)
  }

  #nextHop(answer: Answer, url: URL): URL | undefined {
    try {
      return this.#guard(() => redirectTarget(answer, url))
    } catch (error) {
      answer.body.discard()
      throw error
    }
  }

  async readToken(answer: Answer): Promise<Token> {
    const body = await readWhole(answer.body, MAX_BYTES).catch((error: unknown) => {
      const timedOut = this.#signal.aborted && !(error instanceof UpstreamError)
      throw timedOut ? this.#late(this.request.realm) : error
    })
    const text = body?.toString() ?? ''
    const token = readToken(text, this.#options.now())
    if (token !== undefined) return token
    const isPage = isHtml({ headers: answer.headers, body: text })
    const what = isPage ? 'a web page' : 'no usable token'
    const cure = 'look there, and at proxies on the way'
    const { host } = this.request.realm
    throw this.#failure('protocol', `its token server ${host} answers 200 with ${what}: ${cure}`)
  }

  /**
   * Returns why there is no token. The messages for registries fit, except those about the request.
   */
  async refusal(answer: Answer): Promise<UpstreamError> {
    const { status, headers } = answer
    const body = await readStart(answer.body, MAX_BYTES)
    const found = diagnoseAnswer(
      { status, headers, body },
      this.#asked(this.request.realm),
      this.#options.now(),
    )
    if (!['not-found', 'protocol'].includes(found.reason)) return found
    const what = `its token server ${this.request.realm.host} gives no token (${status})`
    const cure = 'check the name, and that server'
    const scopes = this.request.scopes.join(' ')
    return this.#failure('token-refused', `${what} for ${scopes}: ${cure}`)
  }

  async #send(url: URL, message: TokenMessage, authorization: string | undefined): Promise<Answer> {
    try {
      return await this.#options.transport.send(
        {
          url,
          method: message.method,
          host: this.#hostKey(url),
          via: this.#endpoint.host,
          headers: {
            ...this.#options.headers,
            accept: 'application/json',
            ...(authorization !== undefined && { authorization }),
            ...(message.form !== undefined && {
              'content-type': 'application/x-www-form-urlencoded',
            }),
          },
          body: message.form,
          reach: this.#reach(url),
          lane: 'metadata',
        },
        { signal: this.#signal, translate: (error) => this.#diagnose(error, url) ?? error },
      )
    } catch (error) {
      throw this.#diagnose(error, url) ?? error
    }
  }

  #reach(url: URL): Reach {
    const { base } = this.#endpoint
    const { credential } = this.request
    const realms = credential.kind === 'anonymous' ? undefined : credential.realms
    if (url.origin === base.origin) return this.#ownReach
    if (isListed(url, realms)) return 'any'
    return this.#options.transport.reachFrom(base.origin, this.#ownReach)
  }

  #diagnose(error: unknown, url: URL): UpstreamError | undefined {
    if (error instanceof AddressRefused) {
      const what = `its token server ${url.host} is at a private address`
      const cure = `add it to configs."${this.#endpoint.host}".auth.realms if that is meant`
      return this.#failure('realm-refused', `${what}: ${cure}`)
    }
    if (this.#signal.aborted) return this.#late(url)
    return diagnoseNetwork(error, this.#asked(url), 'head')
  }

  #late({ host }: URL): UpstreamError {
    const cure = 'check the way there and that server'
    return this.#failure('timed-out', `no token from its token server ${host} in time: ${cure}`)
  }

  #guard<T>(check: () => T): T {
    try {
      return check()
    } catch (error) {
      if (error instanceof RealmRefused) throw this.#failure('realm-refused', error.message)
      if (error instanceof RedirectRefused) {
        throw this.#failure('realm-refused', `its token server ${error.message}`)
      }
      throw error
    }
  }

  #asked(url: URL): Asked {
    return {
      endpoint: this.#endpoint.key,
      url,
      host: this.#hostKey(url),
      authHost: this.#endpoint.host,
      redirected: false,
      forToken: true,
      credential: this.request.credential.kind,
      identified: false,
    }
  }

  #hostKey(url: URL): string {
    return url.origin === this.#endpoint.base.origin ? this.#endpoint.host : url.host
  }

  #failure(reason: UpstreamError['reason'], what: string): UpstreamError {
    const endpoint = this.#endpoint.key
    return new UpstreamError(reason, `${endpoint}: ${what}`, { endpoint })
  }
}
