// Requests for a token and what their answers mean (distribution's token and OAuth2 specifications).
// Pure: token-server.ts sends them.
import type { TokenCredential } from '../credentials/credentials.ts'
import { parseObject } from '../../oci/json-object.ts'
import { basic, isSendable } from '../../http/authorization.ts'

export interface TokenRequest {
  readonly realm: URL
  readonly service: string | undefined
  readonly scopes: readonly string[]
  readonly credential: TokenCredential
}

export interface Token {
  readonly value: string
  /** Milliseconds since 1970. */
  readonly expiresAt: number
  /** When to fetch the next one, in milliseconds since 1970. */
  readonly renewAt: number
}

/**
 * One kind of request. If a server does not support it (`isWorthAnotherWay`), the next is tried.
 */
export interface TokenMessage {
  readonly url: URL
  readonly method: 'GET' | 'POST'
  readonly authorization?: string
  readonly form?: string
}

const CLIENT_ID = 'chandlery'
/** The user name with which Azure accepts an identity token as the password. */
const AZURE_USER = '00000000-0000-0000-0000-000000000000'
const MIN_LIFETIME_S = 60
const MAX_LIFETIME_S = 24 * 60 * 60
const RENEW_AT = 0.8
/**
 * Returns the requests to try, in order. Passwords: GET with Basic, which every server supports, then
 * POST. Identity tokens: POST, then GET with Basic and Azure's null user.
 */
export function tokenMessages(request: TokenRequest): TokenMessage[] {
  const { credential } = request
  if (credential.kind === 'anonymous') return [getMessage(request)]
  if (credential.kind === 'basic') {
    const { username, password } = credential
    const grant = { grant_type: 'password', username, password }
    return [getMessage(request, basic(username, password), username), postMessage(request, grant)]
  }
  const grant = { grant_type: 'refresh_token', refresh_token: credential.token }
  const user = credential.username ?? AZURE_USER
  return [postMessage(request, grant), getMessage(request, basic(user, credential.token))]
}

/**
 * Reports whether the status refuses the kind of request: Azure 400, Artifactory 401, GCR 404 and
 * 405.
 */
export function isWorthAnotherWay(status: number, tried: TokenMessage): boolean {
  const refusals =
    tried.method === 'POST' ? [400, 401, 403, 404, 405, 415, 501] : [400, 404, 405, 501]
  return refusals.includes(status)
}

function getMessage(request: TokenRequest, authorization?: string, account?: string): TokenMessage {
  const url = new URL(request.realm)
  const { searchParams } = url
  const { service, scopes } = request
  if (service !== undefined && !searchParams.has('service')) searchParams.append('service', service)
  for (const scope of scopes) {
    if (!searchParams.has('scope', scope)) searchParams.append('scope', scope)
  }
  if (account !== undefined && !searchParams.has('account')) searchParams.append('account', account)
  return { url, method: 'GET', ...(authorization !== undefined && { authorization }) }
}

function postMessage(request: TokenRequest, grant: Record<string, string>): TokenMessage {
  const { realm, service, scopes } = request
  const form = new URLSearchParams({ ...grant, client_id: CLIENT_ID, scope: scopes.join(' ') })
  if (service !== undefined) form.set('service', service)
  return { url: realm, method: 'POST', form: form.toString() }
}

/** Returns the token in an answer, or undefined if there is none that can be sent. */
export function readToken(body: string, nowMs: number): Token | undefined {
  const json = parseObject(body) ?? {}
  const value = [json['access_token'], json['token']].find(isSendable)
  if (value === undefined) return undefined
  const lifetimeMs = readLifetime(json['expires_in']) * 1000
  const expiresAt = startOf(json['issued_at'], lifetimeMs, nowMs) + lifetimeMs
  return { value, expiresAt, renewAt: nowMs + (expiresAt - nowMs) * RENEW_AT }
}

/**
 * Returns seconds. Servers should not issue tokens for less than a minute, which is also the
 * default.
 */
function readLifetime(expiresIn: unknown): number {
  const seconds = Number(expiresIn)
  if (!(seconds >= MIN_LIFETIME_S)) return MIN_LIFETIME_S
  return Math.min(seconds, MAX_LIFETIME_S)
}

/**
 * Returns when the lifetime began: a server may hand out an older token. Ignores absurd times:
 * clocks differ.
 */
function startOf(issuedAt: unknown, lifetimeMs: number, nowMs: number): number {
  const issued = typeof issuedAt === 'string' ? Date.parse(issuedAt) : Number.NaN
  const isPlausible = issued <= nowMs && issued + lifetimeMs / 2 > nowMs
  return isPlausible ? issued : nowMs
}
