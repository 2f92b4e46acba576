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
export interface Asker {
  readonly endpoint: Endpoint
  /** What stands between /v2/ and /manifests in the request sent. */
  readonly name: string
  readonly credential: Credential
  /** Where the endpoint itself may be. */
  readonly reach: Reach
  readonly signal?: AbortSignal | undefined
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
type Way =
  | { readonly scheme: 'basic' }
  | ({ readonly scheme: 'bearer' } & Omit<TokenRequest, 'credential'>)

const MAX_REMEMBERED = 16_384
/** In characters, of keys and of what challenges said: that is the registry's to choose. */
const MAX_REMEMBERED_SIZE = 16 * 1024 * 1024

export class Authorizer {
  readonly #options: TokenServerOptions
  readonly #tokens: TokenCache
  /** Bearer ways by repository; Basic by endpoint. */
  readonly #ways: LRUCache<string, Way>

  /** `former`: shares what that one has learned. */
  constructor(options: TokenServerOptions, former?: Authorizer) {
    this.#options = options
    this.#tokens = new TokenCache(options.now, former && former.#tokens)
    this.#ways = former === undefined ? noWays() : former.#ways
  }

  /** What worked before for this repository; undefined: nothing known, ask without. Throws UpstreamError. */
  async recall(asker: Asker): Promise<Grant | undefined> {
    if (asker.credential.kind === 'bearer') return readyGrant(asker.credential.token)
    const [own, whole] = wayKeys(asker)
    const way = this.#ways.get(own) ?? this.#ways.get(whole)
    if (way === undefined) return undefined
    try {
      return await this.#grant(asker, way)
    } catch (error) {
      if (!(error instanceof UpstreamError) || error.kind !== 'denied') throw error
      // The registry may want something else by now: its next challenge says what.
      this.#ways.delete(own)
      return undefined
    }
  }

  /**
   * What to answer a 401 with; undefined: nothing that was not refused already. Throws
   * UpstreamError where there is something, but it cannot be had.
   */
  async answer(
    header: string | string[] | undefined,
    asker: Asker,
    refused: Grant | undefined,
  ): Promise<Grant | undefined> {
    // A ready token is all there is, and it was refused.
    if (asker.credential.kind === 'bearer') return undefined
    const way = chooseWay(parseChallenges(header), asker)
    if (way === undefined) return undefined
    if (way.scheme === 'basic') {
      return refused?.scheme === 'basic' ? undefined : await this.#grant(asker, way)
    }
    const key = tokenKey(asker, way)
    if (refused?.key === key) {
      if (refused.isFresh) return undefined
      this.#tokens.drop(key, refused.header.slice('Bearer '.length))
    }
    return await this.#grant(asker, way)
  }

  async #grant(asker: Asker, way: Way): Promise<Grant> {
    const [own, whole] = wayKeys(asker)
    const { credential, signal } = asker
    if (credential.kind === 'bearer') return readyGrant(credential.token)
    if (way.scheme === 'basic') {
      this.#ways.set(whole, way)
      return { header: basicHeader(credential), scheme: 'basic', key: '', isFresh: true }
    }
    const key = tokenKey(asker, way)
    const fetch = () => fetchToken(this.#options, asker, { ...way, credential })
    const token = await this.#tokens.get(key, fetch, signal)
    this.#ways.set(own, way)
    return { header: `Bearer ${token.value}`, scheme: 'bearer', key, isFresh: token.isNew }
  }
}

function noWays(): LRUCache<string, Way> {
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
function chooseWay(challenges: readonly Challenge[], asker: Asker): Way | undefined {
  for (const { scheme, params } of challenges) {
    const realm =
      scheme === 'bearer' ? parseRealm(params.get('realm'), asker.endpoint.base) : undefined
    if (realm === undefined) continue
    const scopes = scopesFor(params.get('scope'), asker.name)
    return { scheme: 'bearer', realm, service: params.get('service'), scopes }
  }
  const wantsBasic = challenges.some(({ scheme }) => scheme === 'basic')
  return wantsBasic && asker.credential.kind === 'basic' ? { scheme: 'basic' } : undefined
}

function sizeOf(way: Way, key: string): number {
  if (way.scheme === 'basic') return key.length
  const texts = [key, way.realm.href, way.service ?? '', ...way.scopes]
  return texts.reduce((sum, { length }) => sum + length, 0)
}

function wayKeys({ endpoint, name, credential }: Asker): [own: string, whole: string] {
  const whole = `${endpoint.key} ${fingerprintOf(credential)}`
  return [`${whole} ${name}`, whole]
}

/** Tokens are for one service at one registry: another registry's challenge never gets them. */
function tokenKey({ endpoint, credential }: Asker, way: Way & { scheme: 'bearer' }): string {
  const { realm, service, scopes } = way
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
