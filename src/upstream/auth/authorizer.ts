// What to put into Authorization for a registry: learned from its challenges and remembered, so
// that a request costs a 401 only the first time.
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

/** Who asks for what, where. */
export interface AuthContext {
  readonly endpoint: Endpoint
  /** What stands between /v2/ and /manifests in the request sent. */
  readonly name: string
  readonly credential: Credential
  /** Where the endpoint itself may be. */
  readonly reach: Reach
}

/** A right to send: the Authorization header and where it came from. */
export interface Grant {
  readonly header: string
  readonly scheme: 'basic' | 'bearer'
  /** Bearer: the token cache's key; Basic: empty. */
  readonly key: string
  /** It was made for this very request: a refusal is final. */
  readonly isFresh: boolean
}

/** How a registry wants to be asked for a repository. */
type AuthScheme =
  | { readonly kind: 'basic' }
  | ({ readonly kind: 'bearer' } & Omit<TokenRequest, 'credential'>)

const MAX_REMEMBERED = 16_384
/** In characters, of keys and of what challenges said: that is the registry's to choose. */
const MAX_REMEMBERED_SIZE = 16 * 1024 * 1024

export class Authorizer {
  readonly #options: TokenServerOptions
  readonly #tokens: TokenCache
  /** Bearer ways by repository; Basic by endpoint. */
  readonly #schemes: LRUCache<string, AuthScheme>

  /** `former`: shares what that one has learned. */
  constructor(options: TokenServerOptions, former?: Authorizer) {
    this.#options = options
    this.#tokens = new TokenCache(options.now, former && former.#tokens)
    this.#schemes = former === undefined ? noSchemes() : former.#schemes
  }

  /** What worked before for this repository; undefined: nothing known, ask without. Throws UpstreamError. */
  async recall(context: AuthContext, signal: AbortSignal): Promise<Grant | undefined> {
    if (context.credential.kind === 'bearer') return readyGrant(context.credential.token)
    const [own, whole] = schemeKeys(context)
    const scheme = this.#schemes.get(own) ?? this.#schemes.get(whole)
    if (scheme === undefined) return undefined
    try {
      return await this.#grant(context, scheme, signal)
    } catch (error) {
      if (!(error instanceof UpstreamError) || error.kind !== 'denied') throw error
      // The registry may want something else by now: its next challenge says what.
      this.#schemes.delete(own)
      return undefined
    }
  }

  /**
   * What to answer a 401 with; undefined: nothing that was not refused already. Throws
   * UpstreamError where there is something, but it cannot be had.
   */
  async answer(
    header: string | string[] | undefined,
    context: AuthContext,
    refused: Grant | undefined,
    signal: AbortSignal,
  ): Promise<Grant | undefined> {
    // A ready token is all there is, and it was refused.
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

/** For the registry alone: no token server hears of it. */
function readyGrant(token: string): Grant {
  return { header: `Bearer ${token}`, scheme: 'bearer', key: '', isFresh: true }
}

/** Bearer before Basic, as everybody prefers; what cannot be followed is passed over. */
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

/** Tokens are for one service at one registry: another registry's challenge never gets them. */
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
