import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'

import { ANONYMOUS, type Credential } from '../../../src/upstream/credentials/credentials.ts'
import type { Token } from '../../../src/upstream/auth/token.ts'
import { TokenCache } from '../../../src/upstream/auth/token-cache.ts'
import { Rewrite } from '../../../src/upstream/routing/rewrite.ts'
import { startRegistry, type RegistryOptions } from '../../support/registry.ts'
import { startStorageHost } from '../../support/storage-host.ts'
import { startTokenServer, type TokenServerOptions } from '../../support/token-server.ts'
import {
  always,
  collect,
  failureOf,
  REPO,
  upstreamOver,
  type FixtureOptions,
} from '../upstream-fixture.ts'
import { until } from '../../support/until.ts'

const BOT: Credential = { kind: 'basic', username: 'bot', password: 'secret' }
const IDENTITY: Credential = { kind: 'identity', token: 'refresh-me' }

/** A registry behind a token server, an image in it, and an upstream over it. */
async function guarded(
  tokenOptions: TokenServerOptions = {},
  authOptions: object = {},
  options: FixtureOptions = {},
  registryOptions: RegistryOptions = {},
) {
  const tokens = await startTokenServer({ users: { bot: 'secret' }, ...tokenOptions })
  const auth = { kind: 'token', tokens, ...authOptions } as const
  const registry = await startRegistry({ auth, ...registryOptions })
  const image = registry.addImage('library/alpine', 'latest')
  const at = upstreamOver([`${registry.url}${registryOptions.root ?? ''}`], options)
  const pull = () => at.upstream.getManifest(REPO, 'latest', at.requester)
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await registry.close()
    await tokens.close()
  }
  return { tokens, registry, image, at, pull, [Symbol.asyncDispose]: dispose }
}

describe('a token', () => {
  test('is requested once and used without another 401', async () => {
    await using x = await guarded()
    for (let times = 0; times < 3; times++) {
      expect(await x.pull()).toMatchObject({ digest: x.image.digest, grantedBy: 'anonymous' })
    }
    expect(x.registry.requests.map((r) => r.status)).toEqual([401, 200, 200, 200])
    expect(x.tokens.requests.map((r) => r.scopes)).toEqual([['repository:library/alpine:pull']])
    expect(x.tokens.requests[0]).toMatchObject({ method: 'GET', username: undefined })
    expect(x.at.events.tokens).toMatchObject([{ realm: x.tokens.host, outcome: 'ok' }])
  })

  test('is requested once, however many wait for it', async () => {
    await using x = await guarded()
    x.tokens.fault({ delayMs: 50 })
    await Promise.all(Array.from({ length: 20 }, x.pull))
    expect(x.tokens.requests).toHaveLength(1)
  })

  test('that is refused is refused to all that wait for it', async () => {
    await using x = await guarded({ repositories: {} })
    x.tokens.fault({ delayMs: 50 })
    const reasons = await Promise.all(
      Array.from({ length: 5 }, async () => (await failureOf(x.pull())).reason),
    )
    expect(new Set(reasons).size).toBe(1)
    expect(x.tokens.requests).toHaveLength(1)
  })

  test('is still obtained for the others when the first that asked leaves', async () => {
    await using x = await guarded()
    x.tokens.fault({ delayMs: 100 })
    const leaving = new AbortController()
    const left = x.at.upstream.getManifest(REPO, 'latest', x.at.requester, leaving.signal)
    const stays = x.pull()
    await until(() => x.tokens.requests.length === 1)
    leaving.abort(new Error('left'))
    await expect(left).rejects.toThrow('left')
    expect(await stays).toMatchObject({ digest: x.image.digest })
    expect(x.tokens.requests).toHaveLength(1)
  })

  test('is for the name in the request, after rewrites and below a path', async () => {
    await using tokens = await startTokenServer()
    const auth = { kind: 'token', tokens, scope: 'none' } as const
    await using registry = await startRegistry({ auth })
    registry.addImage('proxy/team/alpine', 'latest')
    const rewrites = [new Rewrite('^library/(.+)$', 'team/$1')]
    await using at = upstreamOver([`${registry.url}/v2/proxy`], { rewrites })
    await at.upstream.getManifest(REPO, 'latest', at.requester)
    const asked = tokens.requests.map((r) => r.scopes)
    expect(asked).toEqual([['repository:proxy/team/alpine:pull']])
  })

  test("is for the request's repository where the challenge has a placeholder", async () => {
    await using x = await guarded({}, { scope: 'repository:user/image:pull' })
    await x.pull()
    expect(x.tokens.requests.map((r) => r.scopes)).toEqual([['repository:library/alpine:pull']])
  })

  test('that is no longer valid is fetched again, once', async () => {
    await using x = await guarded()
    await x.pull()
    x.tokens.revokeAll()
    await x.pull()
    expect(x.tokens.requests).toHaveLength(2)
    expect(x.registry.requests.map((r) => r.status)).toEqual([401, 200, 401, 200])
  })

  test('that is fresh and still refused is not fetched again and again', async () => {
    await using x = await guarded({ strict: false, repositories: {} }, {}, { credential: BOT })
    const failure = await failureOf(x.pull())
    expect(failure).toMatchObject({ reason: 'denied', kind: 'denied', status: 401 })
    expect(x.tokens.requests).toHaveLength(1)
    expect(x.registry.requests).toHaveLength(2)
  })

  test('is renewed before it expires, while the old one is used', async () => {
    let now = 1_000_000
    await using x = await guarded({ expiresIn: 100, lifetimeMs: 1e9 }, {}, { now: () => now })
    await x.pull()
    now += 79_000
    await x.pull()
    expect(x.tokens.requests).toHaveLength(1)
    now += 2_000
    await x.pull()
    await x.pull()
    expect(x.tokens.requests).toHaveLength(2)
    now += 101_000
    await x.pull()
    expect(x.tokens.requests).toHaveLength(3)
    expect(x.registry.requests.filter((r) => r.status === 401)).toHaveLength(1)
  })

  test.each(['token', 'access_token', 'both'] as const)('is found in %s', async (respond) => {
    await using x = await guarded({ respond })
    expect(await x.pull()).toMatchObject({ digest: x.image.digest })
  })

  test("is requested with the realm's own query", async () => {
    await using x = await guarded({ realmQuery: { tenant: 'a b' } })
    expect(await x.pull()).toMatchObject({ digest: x.image.digest })
  })

  test('is requested at a relative realm and after a challenge in several parts', async () => {
    await using x = await guarded()
    const { service, realm } = x.tokens
    const challenge = (scope = '') => [
      'Negotiate',
      `Basic realm="x", bEARER Realm="${realm}" , SERVICE=${service},scope="${scope}"`,
    ]
    x.registry.options = {
      ...x.registry.options,
      auth: { kind: 'token', tokens: x.tokens, challenge },
    }
    expect(await x.pull()).toMatchObject({ digest: x.image.digest })
  })
})

// Node ends a process in which a rejection meets nobody.
test('a token that is refused to a caller that has left leaves no unhandled rejection', async () => {
  const unhandled: unknown[] = []
  const note = (reason: unknown) => void unhandled.push(reason)
  process.on('unhandledRejection', note)
  const cache = new TokenCache(Date.now)
  const fetched = Promise.withResolvers<Token>()
  const left = cache.get('key', () => fetched.promise, AbortSignal.abort(new Error('left')))
  await expect(left).rejects.toThrow('left')
  fetched.reject(new Error('refused'))
  await sleep(0)
  await setImmediate()
  process.off('unhandledRejection', note)
  expect(unhandled).toEqual([])
})

describe('a password', () => {
  test('goes to the token server as Basic, and its token counts as granted by credential', async () => {
    const repositories = { 'library/alpine': ['bot'] }
    await using x = await guarded({ repositories }, {}, { credential: BOT })
    expect(await x.pull()).toMatchObject({ grantedBy: 'credential' })
    expect(x.tokens.requests[0]).toMatchObject({ method: 'GET', username: 'bot' })
    const sent = x.registry.requests.map((r) => r.headers.authorization ?? '')
    expect(sent.some((header) => header.startsWith('Basic'))).toBe(false)
  })

  test.each([404, 405])('is sent by POST where GET is answered %i', async (get) => {
    await using x = await guarded({ get }, {}, { credential: BOT })
    expect(await x.pull()).toMatchObject({ grantedBy: 'credential' })
    expect(x.tokens.requests.map((r) => r.method)).toEqual(['GET', 'POST'])
  })

  test('that is wrong is bad-credentials, which names the key and not the password', async () => {
    const credential: Credential = { ...BOT, password: 'wrong-secret' }
    await using x = await guarded({}, {}, { credential })
    const failure = await failureOf(x.pull())
    expect(failure).toMatchObject({ reason: 'bad-credentials', kind: 'denied', status: 401 })
    expect(failure.message).toContain(`configs."${x.registry.host}".auth`)
    expect(JSON.stringify(x.at.events) + failure.stack).not.toContain('wrong-secret')
    expect(x.at.events.tokens).toMatchObject([{ outcome: 'refused' }])
  })

  test('that is missing is needs-credentials', async () => {
    await using x = await guarded({
      repositories: { 'library/alpine': ['bot'] },
      refusedStatus: 401,
    })
    const failure = await failureOf(x.pull())
    expect(failure).toMatchObject({ reason: 'needs-credentials', kind: 'denied' })
    expect(failure.message).toContain(`configs."${x.registry.host}".auth`)
  })

  test('goes straight to a registry that asks for Basic, and unasked from then on', async () => {
    const auth = { kind: 'basic', username: 'bot', password: 'secret' } as const
    await using registry = await startRegistry({ auth })
    registry.addImage('library/alpine', 'latest')
    registry.addImage('library/busybox', 'latest')
    await using at = upstreamOver([registry.url], { credential: BOT })
    await at.upstream.getManifest(REPO, 'latest', at.requester)
    await at.upstream.getManifest({ ...REPO, name: 'library/busybox' }, 'latest', at.requester)
    expect(registry.requests.map((r) => r.status)).toEqual([401, 200, 200])
    await using anonymous = upstreamOver([registry.url])
    const failure = await failureOf(
      anonymous.upstream.getManifest(REPO, 'latest', anonymous.requester),
    )
    expect(failure.reason).toBe('needs-credentials')
  })

  test('that is wrong for Basic is tried once', async () => {
    const auth = { kind: 'basic', username: 'bot', password: 'other' } as const
    await using registry = await startRegistry({ auth })
    await using at = upstreamOver([registry.url], { credential: BOT })
    const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect(failure.reason).toBe('bad-credentials')
    expect(registry.requests).toHaveLength(2)
  })

  test('of one registry is never used for another', async () => {
    const repositories = { 'library/alpine': ['bot'] }
    await using x = await guarded({ repositories }, {}, { credential: BOT })
    await x.pull()
    const anonymous = { credentials: always(ANONYMOUS) }
    const failure = await failureOf(x.at.upstream.getManifest(REPO, 'latest', anonymous))
    expect(failure.kind).toBe('denied')
  })
})

describe('an identity token', () => {
  test('is exchanged by POST', async () => {
    const identityTokens = { 'refresh-me': 'bot' }
    await using x = await guarded({ identityTokens }, {}, { credential: IDENTITY })
    expect(await x.pull()).toMatchObject({ grantedBy: 'credential' })
    const fields = new Map(x.tokens.requests[0]?.fields)
    expect(x.tokens.requests.map((r) => r.method)).toEqual(['POST'])
    expect(fields.get('grant_type')).toBe('refresh_token')
    expect(fields.get('client_id')).toBe('chandlery')
    expect(fields.get('scope')).toBe('repository:library/alpine:pull')
  })

  test('is sent once where the token server resets the connection', async () => {
    const identityTokens = { 'refresh-me': 'bot' }
    await using x = await guarded({ identityTokens }, {}, { credential: IDENTITY })
    x.tokens.fault({ match: { method: 'POST' }, resetAfter: -1 })
    expect(await failureOf(x.pull())).toMatchObject({ reason: 'reset', kind: 'unavailable' })
    expect(x.tokens.requests.map((r) => r.method)).toEqual(['POST'])
  })

  test('never goes out on a kept connection, which may be stale', async () => {
    const options = { identityTokens: { 'refresh-me': 'bot' }, forgetsConnections: true }
    await using x = await guarded(options, {}, { credential: IDENTITY })
    for (let pulls = 1; pulls <= 3; pulls++) {
      expect(await x.pull()).toMatchObject({ grantedBy: 'credential' })
      x.tokens.revokeAll()
      expect(x.tokens.requests.map((r) => r.method)).toEqual(Array(pulls).fill('POST'))
    }
  })

  test.each([400, 401, 404, 405])(
    'is sent as Azure wants it where POST is answered %i',
    async (post) => {
      const users = { '00000000-0000-0000-0000-000000000000': 'refresh-me' }
      await using x = await guarded({ users, post }, {}, { credential: IDENTITY })
      expect(await x.pull()).toMatchObject({ grantedBy: 'credential' })
      expect(x.tokens.requests.map((r) => r.method)).toEqual(['POST', 'GET'])
    },
  )
})

describe('a realm', () => {
  test('on another host gets no password unless it is listed', async () => {
    // localhost and 127.0.0.1 are two names here, as evil.test would be.
    await using tokens = await startTokenServer({ users: { bot: 'secret' }, host: 'localhost' })
    await using registry = await startRegistry({ auth: { kind: 'token', tokens } })
    const image = registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([registry.url], { credential: BOT })
    const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect(failure).toMatchObject({ reason: 'realm-refused', kind: 'denied' })
    expect(failure.message).toContain(`auth.realms`)
    expect(tokens.requests).toEqual([])
    const credential: Credential = {
      kind: 'basic',
      username: 'bot',
      password: 'secret',
      realms: [tokens.host],
    }
    await using listed = upstreamOver([registry.url], { credential })
    const manifest = await listed.upstream.getManifest(REPO, 'latest', listed.requester)
    expect(manifest.digest).toBe(image.digest)
  })

  test('at the metadata service is not asked, even without a password', async () => {
    const header = 'Bearer realm="http://169.254.169.254/token",service="x"'
    await using x = await guarded({}, { challenge: () => header })
    const failure = await failureOf(x.pull())
    expect(failure).toMatchObject({ reason: 'realm-refused', kind: 'denied' })
  })

  test('that refuses leaves no connection behind, however long its 401 is', async () => {
    await using registry = await startRegistry()
    registry.fault({ match: { kind: 'other' }, status: 403 })
    registry.fault({
      match: { kind: 'manifest' },
      status: 401,
      body: Buffer.alloc(2_000_000),
      headers: { 'www-authenticate': 'Bearer realm="/token"' },
    })
    await using at = upstreamOver([registry.url], { limits: { connections: 1 } })
    for (let times = 0; times < 3; times++) {
      const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
      expect(failure.kind).toBe('denied')
    }
  })

  test('that does not answer is a failure of that upstream', async () => {
    await using x = await guarded()
    await x.tokens.close()
    expect(await failureOf(x.pull())).toMatchObject({ reason: 'refused', kind: 'unavailable' })
    expect(x.at.events.tokens).toMatchObject([{ outcome: 'failed' }])
  })

  test('that is too slow is given up in time', async () => {
    await using x = await guarded({}, {}, { limits: { tokenTimeoutMs: 150 } })
    x.tokens.fault({ stall: 'headers' })
    expect(await failureOf(x.pull())).toMatchObject({ reason: 'timed-out' })
  })

  test('with an endless or empty response gives no token', async () => {
    for (const body of ['{"token":"', '', '[]', '{"token":"two words"}', '{"token":7}']) {
      const filler = body === '{"token":"' ? 'x'.repeat(200_000) : ''
      await using registry = await startRegistry()
      registry.fault({ match: { kind: 'other' }, status: 200, body: body + filler })
      registry.fault({
        match: { kind: 'manifest' },
        status: 401,
        headers: { 'www-authenticate': 'Bearer realm="/token"' },
      })
      await using at = upstreamOver([registry.url])
      const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
      expect(failure).toMatchObject({ reason: 'protocol', kind: 'unavailable' })
      expect(failure.message).toContain('answers 200 with no usable token: look there')
    }
  })

  test('that answers with a web page gives no token, and the error says so', async () => {
    await using x = await guarded()
    x.tokens.fault({ status: 200, body: '<html>log in', headers: { 'content-type': 'text/html' } })
    const failure = await failureOf(x.pull())
    expect(failure).toMatchObject({ reason: 'protocol', kind: 'unavailable' })
    expect(failure.message).toMatch(/its token server .* answers 200 with a web page: .*proxies/)
    expect(x.at.events.tokens).toMatchObject([{ outcome: 'failed' }])
    x.tokens.clearFaults()
    expect(await x.pull()).toMatchObject({ endpoint: x.at.endpoints[0]!.key })
  })

  test('that redirects gets the password on the same host only', async () => {
    await using other = await startRegistry()
    other.fault({ status: 200, body: '{"token":"x"}' })
    await using registry = await startRegistry()
    registry.fault({ match: { kind: 'other' }, redirect: `${other.url}/token` })
    registry.fault({
      match: { kind: 'manifest' },
      status: 401,
      headers: { 'www-authenticate': 'Bearer realm="/token"' },
    })
    await using at = upstreamOver([registry.url], { credential: BOT })
    await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect(other.requests).not.toEqual([])
    for (const { headers } of other.requests) expect(headers).not.toHaveProperty('authorization')
  })

  test('that is overloaded makes the pull rate-limited', async () => {
    await using registry = await startRegistry()
    registry.fault({ match: { kind: 'other' }, status: 429, headers: { 'retry-after': '7' } })
    registry.fault({
      match: { kind: 'manifest' },
      status: 401,
      headers: { 'www-authenticate': 'Bearer realm="/token"' },
    })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect(failure).toMatchObject({ reason: 'rate-limited', retryAfterMs: 7000 })
  })
})

/** A token got elsewhere, as a CI system writes it into config.json. */
async function issue(x: Awaited<ReturnType<typeof guarded>>): Promise<string> {
  const scope = 'repository:library/alpine:pull'
  const response = await fetch(`${x.tokens.realm}?service=${x.tokens.service}&scope=${scope}`)
  const { token, access_token: other } = JSON.parse(await response.text())
  x.tokens.requests.length = 0
  return String(token ?? other)
}

describe('a registry token', () => {
  test('is sent as it is, and no token server is asked', async () => {
    await using x = await guarded()
    const ready = { kind: 'bearer', token: await issue(x) } as const
    const who = { credentials: always(ready) }
    const pulled = await x.at.upstream.getManifest(REPO, 'latest', who)
    expect(pulled).toMatchObject({ digest: x.image.digest, grantedBy: 'credential' })
    expect(x.registry.requests.map((r) => r.status)).toEqual([200])
    expect(x.tokens.requests).toEqual([])
  })

  test('that is refused is not tried again, nor sent to any token server', async () => {
    await using x = await guarded()
    const who = { credentials: always({ kind: 'bearer', token: 'expired-secret' }) }
    for (let times = 0; times < 2; times++) {
      const failure = await failureOf(x.at.upstream.getManifest(REPO, 'latest', who))
      expect(failure).toMatchObject({ reason: 'bad-credentials', kind: 'denied' })
      expect(failure.message).toMatch(/registrytoken.*dockerConfig/)
      expect(failure.message).not.toContain('expired-secret')
    }
    expect(x.registry.requests.map((r) => r.status)).toEqual([401, 401])
    expect(x.tokens.requests).toEqual([])
  })

  test('goes to no other host', async () => {
    await using storage = await startStorageHost()
    await using x = await guarded({}, {}, {}, { redirectBlobs: storage })
    const who = { credentials: always({ kind: 'bearer', token: await issue(x) }) }
    const [source] = x.at.upstream.blobSources(REPO, who)
    const { digest } = x.image.blobs[0]!
    const { body } = await source!.fetch(digest, 0, new AbortController().signal)
    await collect(body)
    expect(storage.requests).toHaveLength(1)
    expect(storage.requests[0]?.headers).not.toHaveProperty('authorization')
  })
})
