// Errors that are Chandlery's own, met on the way to an upstream: they reach the caller as they are,
// and nothing is held against an endpoint.
import { beforeEach, describe, expect, test } from 'vitest'

import type { Digest } from '../../src/oci/digest.ts'
import { ConfiguredCredentials } from '../../src/upstream/credentials/configured.ts'
import { Proxy } from '../../src/upstream/network/proxy/egress-proxy.ts'
import { Resolver } from '../../src/upstream/address/resolver.ts'
import { startRegistry, type TestRegistry } from '../support/registry.ts'
import { startTokenServer } from '../support/token-server.ts'
import {
  collect,
  REPO,
  upstreamOver,
  type Fixture,
  type FixtureOptions,
} from './upstream-fixture.ts'

const { signal } = new AbortController()
/** More than opens a breaker. */
const TIMES = 4

const noDescriptor = () => Object.assign(new Error('too many open files'), { code: 'EMFILE' })
/** Every name that has to be looked up finds that no file descriptor is left. */
const EXHAUSTED: FixtureOptions = {
  resolver: new Resolver({ ask: () => Promise.reject(noDescriptor()) }),
}

/** An endpoint first, made by `urlOf`, and a registry that works and has the image. */
async function world(urlOf: (registry: TestRegistry) => string, options: FixtureOptions = {}) {
  const registry = await startRegistry()
  const other = await startRegistry()
  for (const each of [registry, other]) each.addImage('library/alpine', 'latest')
  const layer = registry.addBlob(Buffer.alloc(100_000, 'x')).digest
  other.addBlob(Buffer.alloc(100_000, 'x'))
  const at = upstreamOver([urlOf(registry), other.url], options)
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await Promise.all([registry.close(), other.close()])
  }
  return { registry, other, layer, at, [Symbol.asyncDispose]: dispose }
}

function pull(at: Fixture) {
  return at.upstream.getManifest(REPO, 'latest', at.requester)
}

async function fetchBlob({ upstream, requester }: Fixture, digest: Digest) {
  const [source] = upstream.blobSources(REPO, requester)
  const { body } = await source!.fetch(digest, 0, signal)
  return await collect(body)
}

/** Nothing is known against the first endpoint, and the second was not asked instead. */
function expectUntouched({ at, other }: Awaited<ReturnType<typeof world>>) {
  expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('ok')
  expect(at.client.health.lastFailure(at.endpoints[0]!)).toBeUndefined()
  expect(at.events.failures).toEqual([])
  expect(at.events.tokens.filter(({ outcome }) => outcome !== 'ok')).toEqual([])
  expect(other.requests).toEqual([])
}

describe('a server without a free file descriptor', () => {
  test('asks no other endpoint for a manifest, and opens no breaker', async () => {
    await using x = await world(({ port }) => `http://localhost:${port}`, EXHAUSTED)
    for (let i = 0; i < TIMES; i++) await expect(pull(x.at)).rejects.toThrow('too many open files')
    expectUntouched(x)
    expect(x.at.events.faults).toHaveLength(TIMES)
  })

  test('opens no breaker when it fetches a blob', async () => {
    await using x = await world(({ port }) => `http://localhost:${port}`, EXHAUSTED)
    for (let i = 0; i < TIMES; i++) {
      await expect(fetchBlob(x.at, x.layer)).rejects.toThrow('too many open files')
    }
    expectUntouched(x)
  })

  test('does not blame the proxy', async () => {
    const proxy = new Proxy('http://localhost:3128')
    const hosts = { '*': { proxy } }
    await using x = await world(({ url }) => url, { ...EXHAUSTED, hosts })
    for (let i = 0; i < TIMES; i++) {
      await expect(pull(x.at)).rejects.toMatchObject({ cause: { code: 'EMFILE' } })
    }
    expectUntouched(x)
  })

  test('does not blame the token server', async () => {
    await using tokens = await startTokenServer({ host: 'localhost' })
    await using registry = await startRegistry({ auth: { kind: 'token', tokens } })
    registry.addImage('library/alpine', 'latest')
    const options = { ...EXHAUSTED, hosts: { [registry.host]: {} } }
    await using at = upstreamOver([registry.url], options)
    for (let i = 0; i < TIMES; i++) await expect(pull(at)).rejects.toThrow('too many open files')
    expect(at.events.tokens).toEqual([])
    expect(at.events.failures).toEqual([])
    expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('ok')
  })

  test('does not blame the credential that it cannot read', async () => {
    await using x = await world(({ url }) => url)
    const secret = { read: () => Promise.reject(noDescriptor()) }
    const hosts = { '*': { auth: { username: 'bot', password: secret } } }
    const requester = { credentials: new ConfiguredCredentials({ hosts }) }
    for (let i = 0; i < TIMES; i++) {
      const pulled = x.at.upstream.getManifest(REPO, 'latest', requester)
      await expect(pulled).rejects.toMatchObject({ cause: { code: 'EMFILE' } })
    }
    expectUntouched(x)
  })

  test('learns nothing from a probe', async () => {
    await using x = await world(({ port }) => `http://localhost:${port}`, EXHAUSTED)
    for (let i = 0; i < TIMES; i++) await x.at.client.probe(x.at.endpoints[0]!)
    expectUntouched(x)
    expect(x.at.events.faults).toHaveLength(TIMES)
  })
})

function bug(): never {
  throw new TypeError('a bug')
}

describe('a mistake in the code', () => {
  const reported: unknown[] = []
  const observer = {
    upstreamRequest() {},
    upstreamBytes: bug,
    upstreamFailure() {},
    tokenRequest() {},
    unexpectedError: (_operation: string, error: unknown) => void reported.push(error),
  }
  beforeEach(() => void (reported.length = 0))

  test('in the callback for each part of a manifest is not taken for a cut', async () => {
    await using x = await world(({ url }) => url, { observer })
    for (let i = 0; i < TIMES; i++) await expect(pull(x.at)).rejects.toThrow(TypeError)
    expectUntouched(x)
    expect(reported).toHaveLength(TIMES)
  })

  test('in the callback for each part of a blob is not taken for a cut', async () => {
    await using x = await world(({ url }) => url, { observer })
    for (let i = 0; i < TIMES; i++) {
      await expect(fetchBlob(x.at, x.layer)).rejects.toThrow(TypeError)
    }
    expectUntouched(x)
    expect(reported).toHaveLength(TIMES)
  })

  test('in the callback for each part of an error body is not taken for that error', async () => {
    await using x = await world(({ url }) => url, { observer })
    x.registry.fault({ status: 500, body: 'it failed' })
    for (let i = 0; i < TIMES; i++) await expect(pull(x.at)).rejects.toThrow(TypeError)
    expectUntouched(x)
    expect(reported).toHaveLength(TIMES)
  })

  test('that makes undici refuse a request opens no breaker', async () => {
    await using x = await world(({ url }) => url, { version: '1.0\n' })
    for (let i = 0; i < TIMES; i++) {
      await expect(pull(x.at)).rejects.toMatchObject({ code: 'UND_ERR_INVALID_ARG' })
    }
    expectUntouched(x)
  })

  test('in a DNS client is not hidden by the addresses that were known before', async () => {
    const answers = [
      () => Promise.resolve([{ address: '127.0.0.1', family: 4 }]),
      () => Promise.reject(new TypeError('a bug')),
    ]
    const resolver = new Resolver({ ask: () => answers.shift()!() })
    await resolver.resolve('registry.test')
    await expect(resolver.resolve('registry.test')).rejects.toThrow(TypeError)
  })
})
