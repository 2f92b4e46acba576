import { createPublicKey, verify } from 'node:crypto'
import { expect, test } from 'vitest'
import { createSigningKey } from './certificates.ts'
import { jwtSigner } from './jwt.ts'
import { temporaryDirectory } from './temporary-directory.ts'
import { parseScope, startTokenServer, type TestTokenServer } from './token-server.ts'
import { until } from '../support/until.ts'

const SCOPE = 'repository:team/app:pull'

async function ask(tokens: TestTokenServer, fields: Record<string, string>, method = 'GET') {
  const all = { service: tokens.service, scope: SCOPE, client_id: 'test', ...fields }
  const query = new URLSearchParams(all).toString()
  const url = new URL(tokens.realm)
  if (method === 'GET') url.search = [url.search.slice(1), query].filter(Boolean).join('&')
  const type = { 'content-type': 'application/x-www-form-urlencoded' }
  const init = method === 'GET' ? {} : { method, body: query, headers: type }
  const response = await fetch(url, init)
  const body: Record<string, unknown> = JSON.parse(await response.text())
  return { status: response.status, body }
}

test.each([
  ['repository:team/app:pull', 'repository', 'team/app', ['pull']],
  ['repository:host:5000/team/app:pull,push', 'repository', 'host:5000/team/app', ['pull', 'push']],
  ['repository(plugin):x:pull', 'repository(plugin)', 'x', ['pull']],
  ['registry:catalog:*', 'registry', 'catalog', ['*']],
])('the scope %s is taken apart at its first and last colon', (text, type, name, actions) => {
  expect(parseScope(text)).toEqual({ type, name, actions })
})

test.each(['', 'repository', 'repository:app', ':app:pull', 'repository::pull'])(
  '"%s" is not a scope',
  (text) => {
    expect(parseScope(text)).toBeUndefined()
  },
)

test('a password and an identity token are exchanged by POST, and a wrong one is refused', async () => {
  await using tokens = await startTokenServer({
    users: { bot: 'secret' },
    identityTokens: { 'refresh-me': 'bot' },
    repositories: { 'team/app': ['bot'] },
  })
  const login = { grant_type: 'password', username: 'bot', password: 'secret' }
  const offline = await ask(tokens, { ...login, access_type: 'offline' }, 'POST')
  expect(offline).toMatchObject({ status: 200, body: { refresh_token: 'refresh-me' } })
  const refresh = { grant_type: 'refresh_token', refresh_token: 'refresh-me' }
  expect((await ask(tokens, refresh, 'POST')).status).toBe(200)
  expect((await ask(tokens, { ...login, password: 'wrong' }, 'POST')).status).toBe(401)
  expect((await ask(tokens, { ...refresh, refresh_token: 'x' }, 'POST')).status).toBe(401)
  expect(tokens.requests.map((r) => r.username)).toEqual(['bot', 'bot', undefined, undefined])
})

test('methods can be refused, the realm can have a query, and fields can be missing', async () => {
  await using tokens = await startTokenServer({
    post: 404,
    realmQuery: { tenant: 'a b' },
    respond: 'access_token',
    expiresIn: 'omit',
  })
  expect((await ask(tokens, {}, 'POST')).status).toBe(404)
  const { status, body } = await ask(tokens, {})
  expect([status, Object.keys(body)]).toEqual([200, ['access_token']])
  const lost = await fetch(`${tokens.url}/token?service=${tokens.service}&scope=${SCOPE}`)
  expect(lost.status).toBe(400)
})

test('a lenient token server leaves out what it does not know', async () => {
  const repositories = { other: 'anonymous' as const }
  await using tokens = await startTokenServer({ strict: false, repositories })
  const { body } = await ask(tokens, { scope: `${SCOPE} repository:other:pull` })
  expect(tokens.requests[0]?.scopes).toEqual([SCOPE, 'repository:other:pull'])
  expect(tokens.verify(String(body['token']))).toEqual([
    { type: 'repository', name: 'other', actions: ['pull'] },
  ])
})

test('a token expires when its time is over, and the server fails as the test says', async () => {
  await using tokens = await startTokenServer({ lifetimeMs: 30 })
  const { body } = await ask(tokens, {})
  expect(tokens.verify(String(body['token']))).toBeDefined()
  await until(() => tokens.verify(String(body['token'])) === undefined)
  tokens.fault({ status: 503, body: '{}' })
  expect((await ask(tokens, {})).status).toBe(503)
  expect(tokens.requests.map((r) => r.status)).toEqual([200, 503])
})

test('a token is good for as many requests as it may be used for', async () => {
  await using tokens = await startTokenServer({ uses: 2 })
  const { body } = await ask(tokens, {})
  const used = [1, 2, 3].map(() => tokens.verify(String(body['token'])) !== undefined)
  expect(used).toEqual([true, true, false])
})

test('a fault can begin with a later request', async () => {
  await using tokens = await startTokenServer()
  tokens.fault({ match: { from: 2 }, status: 503, body: '{}' })
  const statuses = [await ask(tokens, {}), await ask(tokens, {}), await ask(tokens, {})]
  expect(statuses.map(({ status }) => status)).toEqual([200, 503, 503])
})

test('a signed token names its issuer, its audience and what it grants', async () => {
  await using directory = await temporaryDirectory()
  const pair = await createSigningKey(directory.path)
  await using tokens = await startTokenServer({ sign: jwtSigner(pair, 'the issuer') })
  const { body } = await ask(tokens, {})
  const [header = '', payload = '', signature = ''] = String(body['token']).split('.')
  const key = createPublicKey(pair.cert)
  const signed = Buffer.from(`${header}.${payload}`)
  expect(verify('sha256', signed, key, Buffer.from(signature, 'base64url'))).toBe(true)
  expect(JSON.parse(Buffer.from(payload, 'base64url').toString())).toMatchObject({
    iss: 'the issuer',
    aud: 'test-registry',
    access: [{ type: 'repository', name: 'team/app', actions: ['pull'] }],
  })
})
