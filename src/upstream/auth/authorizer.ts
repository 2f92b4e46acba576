// What to put into Authorization for a registry. It is learned from the registry's challenges and
// remembered, so that only the first request costs a 401.
import { LRUCache } from 'lru-cache'

import { parseChallenges } from '../../http/challenge.ts'
import type { Challenge } from '../../http/challenge.ts'
import type { Reach } from '../address/addresses.ts'
import { fingerprintOf } from '../credentials/credentials.ts'
import type { Credential } from '../credentials/credentials.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { UpstreamError } from '../face/failure.ts'
import { parseRealm } from './realm.ts'
import { scopesFor } from './scope.ts'
import { TokenCache } from './token-cache.ts'
import { fetchToken } from './token-server.ts'
import type { TokenServerOptions } from './token-server.ts'
import type { TokenRequest } from './token.ts'
import { basic } from '../../http/authorization.ts'

/** Who asks for which repository, and where. */
export interface AuthContext {
  readonly endpoint: Endpoint
  /** The repository's name in the path of the request: between /v2/ and /manifests. */
  readonly name: string
  readonly credential: Credential
  /** Which addresses the endpoint may have. */
  readonly reach: Reach
}

/** An Authorization header, and where it came from. */
export interface Grant {
  readonly header: string
  readonly scheme: 'basic' | 'bearer'
  /** For Bearer the key in the token cache; empty for Basic. */
  readonly key: string
  /** It was made for this very request, so a refusal is final. */
  readonly isFresh: boolean
}

/** How a registry wants requests for a repository to be authorized. */
type AuthScheme =
  | { readonly kind: 'basic' }
  | ({ readonly kind: 'bearer' } & Omit<TokenRequest, 'credential'>)

const MAX_REMEMBERED = 16_384
/** In characters of keys and challenges: registries choose how long those are. */
const MAX_REMEMBERED_SIZE = 16 * 1024 * 1024

export class Authorizer {
  readonly #options: TokenServerOptions
  readonly #tokens: TokenCache
  /** Bearer schemes by repository, Basic by endpoint. */
  readonly #schemes: LRUCache<string, AuthScheme>

  /** Shares what `former` has learned. */
  constructor(options: TokenServerOptions, former?: Authorizer) {
    this.#options = options
    this.#tokens = new TokenCache(options.now, former && former.#tokens)
    this.#schemes = former === undefined ? noSchemes() : former.#schemes
  }

  /** Resolves with what worked before for this repository, or undefined if nothing is known. */
  async recall(context: AuthContext, signal: AbortSignal): Promise<Grant | undefined> {
    if (context.credential.kind === 'bearer') return readyGrant(context.credential.token)
    const [own, whole] = schemeKeys(context)
    const scheme = this.#schemes.get(own) ?? this.#schemes.get(whole)
    if (scheme === undefined) return undefined
    try {
      return await this.#grant(context, scheme, signal)
    } catch (error) {
      if (!(error instanceof UpstreamError) || error.kind !== 'denied') throw error
      // The registry may want something else by now. Its next challenge says what.
      this.#schemes.delete(own)
      return undefined
    }
  }

  /**
   * Resolves with what to answer a 401 with, or undefined if there is nothing that was not refused
   * already. Rejects with an UpstreamError if no token can be had.
   */
  async answer(
    header: string | string[] | undefined,
    context: AuthContext,
    refused: Grant | undefined,
    signal: AbortSignal,
  ): Promise<Grant | undefined> {
    // The configured token is all there is, and it was refused.
    if (context.credential.kind === 'bearer') return undefined
    const scheme = chooseScheme(parseChallenges(header), context)
    if (scheme === undefined) return undefined
    if (scheme.kind === 'basic') {
      return refused?.scheme === 'basic' ? undefined : await this.#grant(context, scheme, signal)
    }
    const key = tokenKey(context, scheme)
    if (refused?.key === key) {
      if (refused.isFresh) return undefined
      this.#tokens.drop(key, refused.header.slice('Bearer '.length))
    }
    return await this.#grant(context, scheme, signal)
  }

  async #grant(context: AuthContext, scheme: AuthScheme, signal: AbortSignal): Promise<Grant> {
    const [own, whole] = schemeKeys(context)
    const { credential } = context
    if (credential.kind === 'bearer') return readyGrant(credential.token)
    if (scheme.kind === 'basic') {
      this.#schemes.set(whole, scheme)
      return { header: basicHeader(credential), scheme: 'basic', key: '', isFresh: true }
    }
    const key = tokenKey(context, scheme)
    const fetch = () => fetchToken(this.#options, context, { ...scheme, credential })
    const token = await this.#tokens.get(key, fetch, signal)
    this.#schemes.set(own, scheme)
    return { header: `Bearer ${token.value}`, scheme: 'bearer', key, isFresh: token.isNew }
  }
}

function noSchemes(): LRUCache<string, AuthScheme> {
  return new LRUCache({
    max: MAX_REMEMBERED,
    maxSize: MAX_REMEMBERED_SIZE,
    sizeCalculation: sizeOf,
  })
}

/** A configured token is for the registry alone and never sent to a token server. */
function readyGrant(token: string): Grant {
  return { header: `Bearer ${token}`, scheme: 'bearer', key: '', isFresh: true }
}

/** Prefers Bearer to Basic, as all clients do. Skips challenges without a usable realm. */
function chooseScheme(
  challenges: readonly Challenge[],
  context: AuthContext,
): AuthScheme | undefined {
  for (const { scheme, params } of challenges) {
    const realm =
      scheme === 'bearer' ? parseRealm(params.get('realm'), context.endpoint.base) : undefined
    if (realm === undefined) continue
    const scopes = scopesFor(params.get('scope'), context.name)
    return { kind: 'bearer', realm, service: params.get('service'), scopes }
  }
  const wantsBasic = challenges.some(({ scheme }) => scheme === 'basic')
  return wantsBasic && context.credential.kind === 'basic' ? { kind: 'basic' } : undefined
}

function sizeOf(scheme: AuthScheme, key: string): number {
  if (scheme.kind === 'basic') return key.length
  const texts = [key, scheme.realm.href, scheme.service ?? '', ...scheme.scopes]
  return texts.reduce((sum, { length }) => sum + length, 0)
}

function schemeKeys({ endpoint, name, credential }: AuthContext): [own: string, whole: string] {
  const whole = `${endpoint.key} ${fingerprintOf(credential)}`
  return [`${whole} ${name}`, whole]
}

/**
 * Tokens are for one service at one registry: the challenge of another registry never gets them.
 */
function tokenKey(
  { endpoint, credential }: AuthContext,
  scheme: AuthScheme & { kind: 'bearer' },
): string {
  const { realm, service, scopes } = scheme
  const parts = [
    endpoint.base.origin,
    realm.href,
    service,
    scopes.toSorted(),
    fingerprintOf(credential),
  ]
  return JSON.stringify(parts)
}

function basicHeader(credential: Credential): string {
  return credential.kind === 'basic' ? basic(credential.username, credential.password) : ''
}
