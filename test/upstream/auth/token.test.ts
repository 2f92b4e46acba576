import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'

import { parseRealm, checkRealm, RealmRefused } from '../../../src/upstream/auth/realm.ts'
import { scopesFor } from '../../../src/upstream/auth/scope.ts'
import { readToken, tokenMessages } from '../../../src/upstream/auth/token.ts'
import type { TokenCredential } from '../../../src/upstream/credentials/credentials.ts'
import { endpointOf } from '../upstream-fixture.ts'

const NOW = Date.UTC(2026, 0, 1)
const BOT: TokenCredential = { kind: 'basic', username: 'bot', password: 'secret' }

describe('the scopes of a challenge', () => {
  const OWN = 'repository:team/alpine:pull'
  test.each([
    { challenged: undefined, scopes: [OWN] },
    { challenged: '', scopes: [OWN] },
    { challenged: OWN, scopes: [OWN] },
    {
      challenged: 'repository:team/alpine:pull,push',
      scopes: ['repository:team/alpine:pull,push'],
    },
    { challenged: 'repository:user/image:pull', scopes: [OWN] },
    { challenged: `${OWN} repository:other:pull`, scopes: [OWN] },
    { challenged: `${OWN} ${OWN}`, scopes: [OWN] },
    { challenged: 'aws', scopes: ['aws'] },
    { challenged: `registry:catalog:* ${OWN}`, scopes: ['registry:catalog:*', OWN] },
    { challenged: 'aws repository:user/image:pull', scopes: ['aws', OWN] },
    { challenged: 'repository:alpine:pull', scopes: ['repository:alpine:pull'] },
    {
      challenged: 'repository:repo/team/alpine:pull',
      scopes: ['repository:repo/team/alpine:pull'],
    },
    {
      challenged: 'repository:host:5000/team/alpine:pull',
      scopes: ['repository:host:5000/team/alpine:pull'],
    },
    { challenged: 'repository:xteam/alpine:pull', scopes: [OWN] },
    {
      challenged: 'repository(plugin):team/alpine:pull',
      scopes: ['repository(plugin):team/alpine:pull'],
    },
  ])('$challenged are $scopes', ({ challenged, scopes }) => {
    expect(scopesFor(challenged, 'team/alpine')).toEqual(scopes)
  })

  test('are never empty and never of two repositories', () => {
    const scope = fc.stringMatching(/^(repository|registry|aws):[a-z/]{0,8}:(pull|\*)$/)
    fc.assert(
      fc.property(fc.array(scope), (scopes) => {
        const asked = scopesFor(scopes.join(' '), 'team/alpine')
        const names = asked.filter((s) => s.startsWith('repository:')).map((s) => s.split(':')[1])
        expect(asked.length).toBeGreaterThan(0)
        for (const name of names) {
          const related =
            name === 'team/alpine' ||
            'team/alpine'.endsWith(`/${name}`) ||
            name?.endsWith('/team/alpine')
          expect(related).toBe(true)
        }
      }),
    )
  })
})

const read = (json: object) => readToken(JSON.stringify(json), NOW)

describe('a token response', () => {
  test('prefers access_token, and its token lives for a minute where no lifetime is given', () => {
    expect(read({ token: 'a', access_token: 'b' })).toEqual({
      value: 'b',
      expiresAt: NOW + 60_000,
      renewAt: NOW + 48_000,
    })
  })

  test.each([
    { expires_in: 300, lives: 300 },
    { expires_in: '300', lives: 300 },
    { expires_in: 5, lives: 60 },
    { expires_in: 0, lives: 60 },
    { expires_in: -1, lives: 60 },
    { expires_in: null, lives: 60 },
    { expires_in: 'soon', lives: 60 },
    { expires_in: 1e12, lives: 86_400 },
  ])('with expires_in $expires_in has a token for $lives s', ({ expires_in, lives }) => {
    expect(read({ token: 'a', expires_in })?.expiresAt).toBe(NOW + lives * 1000)
  })

  test.each([
    { issued: -60, lives: 240 },
    { issued: -200, lives: 300 },
    { issued: 3600, lives: 300 },
    { issued: -1e6, lives: 300 },
  ])('issued $issued s from now has a token for $lives s of 300', ({ issued, lives }) => {
    const issued_at = new Date(NOW + issued * 1000).toISOString()
    expect(read({ token: 'a', expires_in: 300, issued_at })?.expiresAt).toBe(NOW + lives * 1000)
  })

  test.each(['', 'null', '[]', '{}', '{"token":""}', '{"token":"a\\r\\nX: y"}', '{"token":{}}'])(
    '%s holds no token',
    (body) => expect(readToken(body, NOW)).toBeUndefined(),
  )

  test('of any string never throws, and never gives a token that breaks a header', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.record({ token: fc.string() }).map((o) => JSON.stringify(o)),
        ),
        (body) => {
          const token = readToken(body, NOW)
          if (token !== undefined) expect(token.value).toMatch(/^[\x21-\x7e]+$/)
        },
      ),
    )
  })
})

describe('a token request', () => {
  const realm = new URL('https://auth.test/token?tenant=1')
  const scopes = ['repository:a:pull', 'registry:catalog:*']

  test("has one parameter for each scope, and the realm's own query", () => {
    const [get] = tokenMessages({
      realm,
      service: 'a b',
      scopes,
      credential: { kind: 'anonymous' },
    })
    expect(get?.url.searchParams.getAll('scope')).toEqual(scopes)
    expect(get?.url.searchParams.get('tenant')).toBe('1')
    expect(get?.url.searchParams.get('service')).toBe('a b')
    expect(get).not.toHaveProperty('authorization')
  })

  test('never has a secret in its URL', () => {
    const identity: TokenCredential = { kind: 'identity', token: 'secret' }
    for (const credential of [BOT, identity]) {
      const messages = tokenMessages({ realm, service: 's', scopes, credential })
      expect(messages.length).toBe(2)
      for (const { url } of messages) expect(url.href).not.toContain('secret')
    }
  })
})

const at = (endpoint: string, realm: string, credential: TokenCredential = BOT) => {
  const url = parseRealm(realm, new URL(endpoint))
  if (url === undefined) return 'none'
  try {
    checkRealm(url, endpointOf(endpoint), credential)
    return 'asked'
  } catch (error) {
    if (error instanceof RealmRefused) return 'refused'
    throw error
  }
}

describe('a realm', () => {
  test.each([
    ['https://registry-1.docker.io', 'https://auth.docker.io/token', 'asked'],
    ['https://registry.gitlab.com', 'https://gitlab.com/jwt/auth', 'asked'],
    ['https://ghcr.io', 'https://ghcr.io/token', 'asked'],
    ['https://registry.test:5000', 'https://registry.test:5001/auth', 'asked'],
    ['https://10.0.0.1:5000', 'https://10.0.0.1:5001/auth', 'asked'],
    ['https://h.test', '/token', 'asked'],
    ['http://h.test', 'http://h.test/token', 'asked'],
    ['https://ghcr.io', 'https://ghcr.io.evil.test/token', 'refused'],
    ['https://me.github.io', 'https://you.github.io/token', 'refused'],
    ['https://a.co.uk', 'https://b.co.uk/token', 'refused'],
    ['https://10.0.0.1', 'https://10.0.0.2/token', 'refused'],
    ['https://h.test', 'http://h.test/token', 'refused'],
    ['https://h.test', 'https://u:p@h.test/token', 'refused'],
    ['https://h.test', 'file:///etc/passwd', 'none'],
    ['https://h.test', '', 'none'],
    ['https://h.test', 'https://', 'none'],
  ])('of %s at %s is %s', (endpoint, realm, expected) => {
    expect(at(endpoint, realm)).toBe(expected)
  })

  test.each([
    { realms: ['auth.other.test'], expected: 'asked' },
    { realms: ['auth.other.test:443'], expected: 'refused' },
    { realms: ['https://auth.other.test'], expected: 'asked' },
    { realms: ['http://auth.other.test'], expected: 'refused' },
    { realms: ['other.test'], expected: 'refused' },
  ])('on another domain with realms $realms is $expected', ({ realms, expected }) => {
    const credential: TokenCredential = { kind: 'basic', username: 'u', password: 'p', realms }
    expect(at('https://h.test', 'https://auth.other.test/token', credential)).toBe(expected)
  })

  test('is asked wherever it is, where there is nothing to steal', () => {
    expect(at('https://h.test', 'http://elsewhere.test/', { kind: 'anonymous' })).toBe('asked')
  })
})
