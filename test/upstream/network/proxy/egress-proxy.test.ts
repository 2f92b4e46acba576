import { inspect } from 'node:util'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import {
  environmentProxy,
  proxiesOf,
  Proxy,
  ProxyError,
} from '../../../../src/upstream/network/proxy/egress-proxy.ts'
import type { HostOptions } from '../../../../src/upstream/network/transport.ts'
import { createAuthority, type KeyPair, type TestAuthority } from '../../../support/certificates.ts'
import {
  startHttpProxy,
  startSocksProxy,
  type ProxyOptions,
} from '../../../support/proxy-server.ts'
import { startRegistry } from '../../../support/registry.ts'
import { startStorageHost } from '../../../support/storage-host.ts'
import { collect, failureOf, REPO, SHORT_LIMITS, upstreamOver } from '../../upstream-fixture.ts'

describe('a written proxy', () => {
  test.each([
    ['http://proxy.test:3128', 'http://proxy.test:3128'],
    ['proxy.test:3128', 'http://proxy.test:3128'],
    ['http://proxy.test', 'http://proxy.test:80'],
    ['https://proxy.test/', 'https://proxy.test:443'],
    ['socks5://[2001:db8::1]', 'socks5://[2001:db8::1]:1080'],
    ['socks5h://proxy.test', 'socks5://proxy.test:1080'],
    ['socks://proxy.test', 'socks5://proxy.test:1080'],
  ])('%s is %s', (written, origin) => {
    expect(new Proxy(written).origin).toBe(origin)
  })

  test.each([
    '',
    'ftp://proxy.test',
    'http://',
    'http://proxy.test/path',
    'http://a:b:c',
    'socks4://x',
  ])('%j is refused', (written) => {
    expect(() => new Proxy(written)).toThrow(ProxyError)
  })

  test('never prints its password, and gives it unescaped', () => {
    const proxy = new Proxy('http://bot:s%40cret@proxy.test:3128')
    expect(proxy.credential).toEqual({ username: 'bot', password: 's@cret' })
    const printed = [String(proxy), JSON.stringify({ proxy }), inspect(proxy), proxy.origin].join()
    expect(printed).toContain('proxy.test:3128')
    expect(printed).not.toMatch(/bot|cret/)
  })

  test('is a proxy or a ProxyError that does not repeat it, whatever the text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.webUrl()), (written) => {
        try {
          expect(new Proxy(written).port).toBeGreaterThanOrEqual(0)
        } catch (error) {
          expect(error).toBeInstanceOf(ProxyError)
        }
      }),
    )
  })
})

describe('the proxy of the environment', () => {
  const env = { HTTP_PROXY: 'http://plain.test:1', HTTPS_PROXY: 'http://secure.test:2' }

  test.each([
    [env, 'https://registry.test/v2', 'http://secure.test:2'],
    [env, 'http://registry.test/v2', 'http://plain.test:1'],
    [{ ...env, https_proxy: 'lower.test:3' }, 'https://registry.test/', 'http://lower.test:3'],
    [{ ALL_PROXY: 'socks5://all.test' }, 'https://registry.test/', 'socks5://all.test:1080'],
    [{}, 'https://registry.test/', undefined],
    [{ HTTPS_PROXY: '' }, 'https://registry.test/', undefined],
    [env, 'https://localhost:5000/', undefined],
    [env, 'https://127.0.0.1/', undefined],
    [env, 'https://[::1]:5000/', undefined],
  ])('%j is for %s: %s', (variables, url, origin) => {
    expect(environmentProxy(new URL(url), proxiesOf(variables)).proxy?.origin).toBe(origin)
  })

  test.each([
    ['*', 'registry.test', true],
    ['registry.test', 'registry.test', true],
    ['registry.test', 'sub.registry.test', true],
    ['registry.test', 'otherregistry.test', false],
    ['.registry.test', 'sub.registry.test', true],
    ['.registry.test', 'registry.test', false],
    ['*.registry.test', 'sub.registry.test', true],
    ['other.test, registry.test', 'registry.test', true],
    ['other.test registry.test', 'registry.test', true],
    ['REGISTRY.test', 'registry.test', true],
    ['registry.test:443', 'registry.test', true],
    ['registry.test:8443', 'registry.test', false],
    ['registry.test:8443', 'registry.test:8443', true],
    ['10.0.0.0/8', '10.1.2.3', true],
    ['10.0.0.0/8', '11.1.2.3', false],
    ['10.0.0.0/8', 'registry.test', false],
    ['10.0.0.0/99', '10.1.2.3', false],
    ['10.1.2.3', '10.1.2.3', true],
    ['1.2.3', '10.1.2.3', false],
    ['2001:db8::/32', '[2001:db8::7]', true],
    ['2001:db8::7', '[2001:db8::7]', true],
    ['[2001:db8::7]:443', '[2001:db8::7]', true],
    ['', 'registry.test', false],
  ])('NO_PROXY=%j excepts %s: %s', (except, host, isExcepted) => {
    const environment = proxiesOf({ ...env, NO_PROXY: except })
    const { proxy } = environmentProxy(new URL(`https://${host}/`), environment)
    expect(proxy === undefined).toBe(isExcepted)
  })

  test('that is invalid is reported with its variable and not with its value', () => {
    expect(() => proxiesOf({ HTTPS_PROXY: 'ftp://u:secret@proxy.test' })).toThrow(/^HTTPS_PROXY /)
    expect(() => proxiesOf({ HTTPS_PROXY: 'ftp://u:secret@proxy.test' })).not.toThrow(/secret/)
  })
})

let authority: TestAuthority
let pair: KeyPair

beforeAll(async () => {
  authority = await createAuthority()
  pair = await authority.server('127.0.0.1', 'registry.test')
})

afterAll(async () => {
  await authority[Symbol.asyncDispose]()
})

const START = { http: startHttpProxy, socks5: startSocksProxy }
type Kind = keyof typeof START
const KINDS = Object.keys(START) as Kind[]
const USER = { username: 'bot', password: 's@cret' }

/** A registry that only the proxy finds, and a client that has the proxy. */
async function behind(
  kind: Kind,
  isTls: boolean,
  options: ProxyOptions = {},
  host: HostOptions = {},
) {
  const registry = await startRegistry(isTls ? { tls: { cert: pair.cert, key: pair.key } } : {})
  const name = `registry.test:${registry.port}`
  const leads = { [name]: registry.host, ...options.leads }
  const proxy = await START[kind]({ ...options, leads })
  const url = `${isTls ? 'https' : 'http'}://${name}`
  const tls = { ca_file: authority.ca.certFile }
  const via = new Proxy(`${kind}://127.0.0.1:${proxy.port}`)
  const at = upstreamOver([url], { hosts: { [name]: { proxy: via, tls, ...host } } })
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await proxy[Symbol.asyncDispose]()
    await registry.close()
  }
  const pull = () => at.upstream.getManifest(REPO, 'latest', at.requester)
  return { registry, name, proxy, at, pull, [Symbol.asyncDispose]: dispose }
}

function withUser({ port }: { port: number }, kind: Kind): Proxy {
  return new Proxy(`${kind}://bot:s%40cret@127.0.0.1:${port}`)
}

describe.each(KINDS)('through a proxy of kind %s', (kind) => {
  test.each([true, false])(
    'a registry with TLS %s is reached by name, and its content read',
    async (isTls) => {
      await using way = await behind(kind, isTls)
      const image = way.registry.addImage('library/alpine', 'latest')
      const { digest } = way.registry.addBlob(Buffer.alloc(300_000, 'x'))
      expect(await way.pull()).toMatchObject({ digest: image.digest })
      const [source] = way.at.upstream.blobSources(REPO, way.at.requester)
      const { body } = await source!.fetch(digest, 0, new AbortController().signal)
      expect(await collect(body)).toHaveLength(300_000)
      const isForwarded = kind === 'http' && !isTls
      const asked = isForwarded ? `GET http://${way.name}/v2/` : `CONNECT ${way.name}`
      expect(way.proxy.requests.every((request) => request.startsWith(asked))).toBe(true)
      expect(way.registry.requests[0]?.headers.host).toBe(way.name)
    },
  )

  test('connections are kept', async () => {
    await using way = await behind(kind, true)
    way.registry.addImage('library/alpine', 'latest')
    for (let times = 0; times < 3; times++) await way.pull()
    expect(way.registry.accepted).toBe(1)
  })

  test("the proxy is asked for the operator's address of a host", async () => {
    await using way = await behind(kind, true, {}, { resolve: ['127.0.0.1'] })
    const image = way.registry.addImage('library/alpine', 'latest')
    expect(await way.pull()).toMatchObject({ digest: image.digest })
    expect(way.proxy.requests).toEqual([`CONNECT 127.0.0.1:${way.registry.port}`])
  })

  test('that wants credentials gets them, and is otherwise named without a secret', async () => {
    for (const isTls of [true, false]) {
      await using way = await behind(kind, isTls, { user: USER })
      const refused = await failureOf(way.pull())
      expect(refused).toMatchObject({ reason: 'refused', kind: 'unavailable' })
      expect(refused.message).toMatch(/proxy .*127\.0\.0\.1.* wants .*\.proxy/)
      way.registry.addImage('library/alpine', 'latest')
      const hosts = {
        [way.name]: { proxy: withUser(way.proxy, kind), tls: { ca_file: authority.ca.certFile } },
      }
      await using known = upstreamOver([way.at.endpoints[0]!.base.origin], { hosts })
      expect(await known.upstream.getManifest(REPO, 'latest', known.requester)).toBeDefined()
    }
  })

  test('that does not find the host, is not there, or says nothing is named in the error', async () => {
    await using lost = await behind(kind, true, { leads: {} })
    await lost.registry.close()
    expect(await failureOf(lost.pull())).toMatchObject({ reason: 'refused' })
    await using silent = await behind(kind, true, { silent: true })
    expect(await failureOf(silent.pull())).toMatchObject({ reason: 'timed-out' })
    await using gone = await behind(kind, true)
    await gone.proxy[Symbol.asyncDispose]()
    const failure = await failureOf(gone.pull())
    expect(failure.reason).toBe('refused')
    expect(failure.message).toContain('no connection to the proxy')
  })

  test('that is not a proxy is detected', async () => {
    await using registry = await startRegistry()
    const proxy = new Proxy(`${kind === 'http' ? 'socks5' : 'http'}://${registry.host}`)
    const hosts = { 'registry.test': { proxy } }
    await using at = upstreamOver(['https://registry.test'], { hosts, limits: SHORT_LIMITS })
    const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect(failure.kind).toBe('unavailable')
    expect(failure.message).toContain(proxy.origin)
  })

  test('redirects and their hosts are reached too, except those in our own network', async () => {
    await using storage = await startStorageHost()
    const leads = { 'storage.test': storage.host, 'storage.test:80': storage.host }
    await using way = await behind(kind, false, { leads })
    const { digest } = way.registry.addBlob(Buffer.from('content'))
    const redirect = `http://storage.test/${digest}`
    way.registry.fault({ match: { kind: 'blob' }, times: 1, redirect })
    const [source] = way.at.upstream.blobSources(REPO, way.at.requester)
    const { signal } = new AbortController()
    // The storage host refuses what it has not signed itself.
    await source!.fetch(digest, 0, signal).catch(() => undefined)
    expect(storage.requests).toHaveLength(1)
    for (const inside of [`http://${storage.host}/x`, 'http://localhost/x', 'http://metadata/x']) {
      way.registry.clearFaults()
      way.registry.fault({ match: { kind: 'blob' }, redirect: inside })
      expect(await failureOf(source!.fetch(digest, 0, signal))).toMatchObject({
        reason: 'redirect-refused',
      })
    }
  })
})

test('a user name that is too long for SOCKS5 is an error of that request, not of the process', async () => {
  await using proxy = await startSocksProxy({ user: USER })
  const via = new Proxy(`socks5://${'u'.repeat(256)}:x@127.0.0.1:${proxy.port}`)
  const hosts = { 'registry.test': { proxy: via } }
  await using at = upstreamOver(['https://registry.test'], { hosts, limits: SHORT_LIMITS })
  const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
  expect(failure.message).toContain('longer than SOCKS5 allows')
})

test('an HTTPS proxy is spoken to in TLS', async () => {
  await using registry = await startRegistry({ tls: { cert: pair.cert, key: pair.key } })
  const image = registry.addImage('library/alpine', 'latest')
  const name = `registry.test:${registry.port}`
  const tls = { cert: pair.cert, key: pair.key }
  await using proxy = await startHttpProxy({ tls, leads: { [name]: registry.host } })
  const at127 = `127.0.0.1:${proxy.port}`
  const trusted = { tls: { ca_file: authority.ca.certFile } }
  const via = new Proxy(`https://${at127}`)
  const hosts = { [name]: { proxy: via, ...trusted }, [at127]: trusted }
  await using at = upstreamOver([`https://${name}`], { hosts })
  const pulled = await at.upstream.getManifest(REPO, 'latest', at.requester)
  expect(pulled.digest).toBe(image.digest)
})

test("the environment's proxy is used where the host has none, and not where it says direct", async () => {
  await using registry = await startRegistry()
  registry.addImage('library/alpine', 'latest')
  await using proxy = await startHttpProxy({ leads: { 'registry.test': registry.host } })
  const proxies = proxiesOf({ HTTP_PROXY: `http://127.0.0.1:${proxy.port}` })
  await using at = upstreamOver(['http://registry.test:80'], { proxies })
  expect(await at.upstream.getManifest(REPO, 'latest', at.requester)).toBeDefined()
  expect(proxy.requests).toHaveLength(1)
  const hosts = { 'registry.test:80': { proxy: 'direct', resolve: ['127.0.0.1'] } } as const
  await using direct = upstreamOver(['http://registry.test:80'], { proxies, hosts })
  await failureOf(direct.upstream.getManifest(REPO, 'latest', direct.requester))
  expect(proxy.requests).toHaveLength(1)
})
