// What a registry may try that means us harm: whoever a client names may be one.
import { writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'

import { ConfiguredCredentials } from '../../src/upstream/credentials/configured.ts'
import { UpstreamError } from '../../src/upstream/face/failure.ts'
import { parseRealm } from '../../src/upstream/auth/realm.ts'
import { TokenCache } from '../../src/upstream/auth/token-cache.ts'
import type { Fault } from '../support/faults.ts'
import { startRegistry } from '../support/registry.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import {
  endpointOf,
  failureOf,
  REPO,
  SHORT_LIMITS,
  upstreamOver,
  type TestRequest,
} from './upstream-fixture.ts'
import { Upstream } from '../../src/upstream/upstream.ts'

const LONG = 'x'.repeat(20_000)
const BASIC = { 'www-authenticate': 'Basic realm="give it to me"' }

function requestFor(path: string): TestRequest {
  return { method: 'GET', path, kind: 'manifest' }
}

describe('strings of any length and kind', () => {
  const texts: [string, Fault][] = [
    ['a redirect to a long host', { redirect: `http://${'a'.repeat(20_000)}.test/` }],
    ['a redirect to a long scheme', { redirect: `${'a'.repeat(20_000)}:x` }],
    ['a redirect with a password', { redirect: 'http://me:secret@h.test/?sig=secret' }],
    ['a redirect to a private address', { redirect: 'http://169.254.169.254/?sig=secret' }],
    ['a redirect to nowhere', { redirect: 'http://127.0.0.1:1/?sig=secret' }],
    ['a long encoding', { headers: { 'content-encoding': LONG } }],
    ['a long type', { status: 200, body: 'x', headers: { 'content-type': `text/${LONG}` } }],
    ['a long realm', challenge(`http://${'a'.repeat(20_000)}.test/token`)],
    ['a realm with a password', challenge('http://me:secret@h.test/?sig=secret')],
    ['a realm at a private address', challenge('http://169.254.169.254/?sig=secret')],
    ['a realm nowhere', challenge('http://127.0.0.1:1/?sig=secret')],
    ['a long scope', challenge('/token', `a:${LONG}:b`)],
    ['a long message', { status: 500, body: JSON.stringify({ message: `\u0007${LONG}` }) }],
  ]

  test.each(texts)('in %s make one short line without secrets', async (_, fault) => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    registry.fault({ match: { kind: 'manifest' }, ...fault })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect(failure.message).toMatch(/^[\x20-\x7e…]{20,750}$/)
    expect(failure.message).not.toContain('secret')
    expect(JSON.stringify(at.events.redirects).length).toBeLessThan(1000)
  })

  test('make no failure longer than a line, wherever it comes from', () => {
    const { message } = new UpstreamError('protocol', `a\nb\u009bc${LONG}`, { endpoint: 'x' })
    expect(message).toMatch(/^a b cx{600,}…$/)
    expect(message.length).toBeLessThan(750)
  })
})

function challenge(realm: string, scope = 'repository:library/alpine:pull'): Fault {
  const header = `Bearer realm="${realm}",service="s",scope="${scope}"`
  return { status: 401, headers: { 'www-authenticate': header } }
}

describe('a connection', () => {
  test('is not held open by an unwanted body that never ends', async () => {
    await using registry = await startRegistry()
    const body = 'x'.repeat(60_000)
    const drip = { bytes: 1, everyMs: 50 }
    registry.fault({ status: 307, body, headers: { location: '/v2/a/x' }, drip, times: 1 })
    await using at = upstreamOver([registry.url], { limits: { ...SHORT_LIMITS, connections: 1 } })
    const startedAt = Date.now()
    const { reason } = await failureOf(at.send(requestFor('x')))
    expect(reason).toBe('not-found')
    expect(Date.now() - startedAt).toBeLessThan(4000)
  })

  test('is not held open by a token server whose redirect is not followed', async () => {
    await using registry = await startRegistry()
    const body = 'x'.repeat(1_000_000)
    registry.fault({ match: { kind: 'manifest' }, ...challenge('/token') })
    registry.fault({
      match: { kind: 'other' },
      status: 307,
      body,
      headers: { location: 'ftp://x' },
    })
    await using at = upstreamOver([registry.url], { limits: { ...SHORT_LIMITS, connections: 1 } })
    for (let times = 0; times < 3; times++) {
      const failure = await failureOf(at.upstream.getManifest(REPO, `t${times}`, at.requester))
      expect(failure.reason).toBe('realm-refused')
    }
  })
})

describe('a credential for every host', () => {
  test('is not for hosts that a client named', async () => {
    await using registry = await startRegistry({
      auth: { kind: 'basic', username: 'bot', password: 'secret' },
    })
    registry.addImage('library/alpine', 'latest')
    registry.fault({ match: { kind: 'tags' }, status: 401, headers: BASIC })
    const host = `named.test:${registry.port}`
    const hosts = { [host]: { resolve: ['127.0.0.1'] } }
    await using at = upstreamOver([], { hosts })
    const own = { ...endpointOf(`http://${host}`), isDefault: true }
    const auth = { username: 'bot', password: 'secret' }
    const requester = { credentials: new ConfiguredCredentials({ hosts: { '*': { auth } } }) }
    const pull = (names: string[]) => {
      const registries = { endpoints: () => [own], names }
      const upstream = new Upstream({ registries, client: at.client })
      return upstream.getManifest(REPO, 'latest', requester)
    }
    expect(await failureOf(pull([]))).toMatchObject({ reason: 'needs-credentials' })
    for (const { headers } of registry.requests) expect(headers).not.toHaveProperty('authorization')
    expect(await pull([REPO.registry])).toMatchObject({ grantedBy: 'credential' })
  })

  test('is not asked of the helper of all hosts', async () => {
    await using directory = await temporaryDirectory()
    const path = directory.join('config.json')
    const config = { credsStore: 'absent', credHelpers: { 'b.test': 'absent' } }
    await writeFile(path, JSON.stringify(config))
    const credentials = new ConfiguredCredentials({ hosts: {}, dockerConfigPaths: [path] })
    const named = { host: 'a.test', byClient: true }
    expect(await credentials.credentialFor(named)).toEqual({ kind: 'anonymous' })
    await expect(credentials.credentialFor({ host: 'a.test' })).rejects.toThrow(/absent/)
    const exact = { host: 'b.test', byClient: true }
    await expect(credentials.credentialFor(exact)).rejects.toThrow(/absent/)
  })
})

test('a realm is not accepted without a valid host', () => {
  const at = new URL('https://registry.test/v2')
  expect(parseRealm(`https://${'a'.repeat(300)}.test/`, at)).toBeUndefined()
  expect(parseRealm(`https://auth.test/?${'a'.repeat(20_000)}`, at)).toBeUndefined()
  expect(parseRealm('https://auth.test/token?a=b', at)?.href).toBe('https://auth.test/token?a=b')
})

test('tokens of any length do not fill the memory', async () => {
  const cache = new TokenCache(Date.now)
  const expiresAt = Date.now() + 1e6
  let fetched = 0
  const get = (n: number) =>
    cache.get(`key ${n}`, async () => {
      fetched++
      return { value: `${n} ${'x'.repeat(48_000)}`, expiresAt, renewAt: expiresAt }
    })
  for (let n = 0; n < 1000; n++) await get(n)
  await get(999)
  expect(fetched).toBe(1000)
  await get(0)
  expect(fetched).toBe(1001)
})
