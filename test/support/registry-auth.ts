// Authentication of a test registry: none, Basic, or tokens that a test token server issued.
import type { RegistryTarget } from './registry-target.ts'
import { errorAnswer, type Answer } from './responder.ts'
import type { GrantedScope, TestTokenServer } from './token-server.ts'

export type RegistryAuth =
  | { readonly kind: 'open' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | {
      readonly kind: 'token'
      readonly tokens: TestTokenServer
      /** The scope in challenges: the right one (default), none, or this placeholder. */
      readonly scope?: 'exact' | 'none' | (string & {})
      /** Writes WWW-Authenticate itself; an array becomes several header lines. */
      readonly challenge?: (scope: string | undefined) => string | string[]
    }

/** Returns the 401 for this Authorization header, or undefined if the request is allowed. */
export function refusal(
  auth: RegistryAuth,
  authorization: string | undefined,
  needed: string | undefined,
): Answer | undefined {
  if (auth.kind === 'open') return undefined
  if (auth.kind === 'basic') {
    const right = Buffer.from(`${auth.username}:${auth.password}`).toString('base64')
    return authorization === `Basic ${right}`
      ? undefined
      : unauthorized('Basic realm="test registry"')
  }
  const token = /^Bearer (.+)$/.exec(authorization ?? '')?.[1]
  const access = token === undefined ? undefined : auth.tokens.verify(token)
  if (access && (needed === undefined || access.some((a) => grants(a, needed)))) return undefined
  const asked = auth.scope ?? 'exact'
  const named = asked === 'exact' ? needed : asked === 'none' ? undefined : asked
  return unauthorized(auth.challenge?.(named) ?? challengeOf(auth.tokens, named, token, access))
}

/** Returns the scope that a request needs, or undefined if any valid token is enough. */
export function neededScope(target: RegistryTarget): string | undefined {
  if (target.kind === 'catalog') return 'registry:catalog:*'
  return target.repository === undefined ? undefined : `repository:${target.repository}:pull`
}

function grants(access: GrantedScope, scope: string) {
  return access.actions.some((action) => `${access.type}:${access.name}:${action}` === scope)
}

function challengeOf(tokens: TestTokenServer, scope?: string, token?: string, access?: unknown) {
  const error = access ? 'insufficient_scope' : 'invalid_token'
  const params = [`realm="${tokens.realm}"`, `service="${tokens.service}"`]
  if (scope !== undefined) params.push(`scope="${scope}"`)
  if (token !== undefined) params.push(`error="${error}"`)
  return `Bearer ${params.join(',')}`
}

function unauthorized(challenge: string | string[]): Answer {
  const body = errorAnswer(401, 'UNAUTHORIZED')
  return { ...body, headers: { ...body.headers, 'www-authenticate': challenge } }
}
