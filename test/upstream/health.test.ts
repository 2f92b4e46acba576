// How the way to several endpoints changes with how they fare, over real sockets.
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'

import { ConfiguredCredentials } from '../../src/upstream/configured-credentials.ts'
import type { ClientOptions } from '../../src/upstream/client.ts'
import { Probing } from '../../src/upstream/probing.ts'
import { startRegistry } from '../support/registry.ts'
import { startStorageHost } from '../support/storage-host.ts'
import { startTokenServer } from '../support/token-server.ts'
import { failureOf, REPO, upstreamOver, type Fixture } from './upstream-fixture.ts'

const { signal } = new AbortController()
const HANG = { stall: 'headers' } as const
const OPEN_MS = 60
const BREAKER: Partial<ClientOptions> = { breaker: { openMs: OPEN_MS, random: () => 0.5 } }

function pull(at: Fixture) {
  return at.upstream.getManifest(REPO, 'latest', at.requester)
}

/** Two registries with the same image; the first may be told to fail. */
async function two(options: Partial<ClientOptions> = {}) {
  const [first, second] = [await startRegistry(), await startRegistry()]
  const image = first.addImage('library/alpine', 'latest')
  second.addImage('library/alpine', 'latest')
  const at = upstreamOver([first.url, second.url], { ...BREAKER, ...options })
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await Promise.all([first.close(), second.close()])
  }
  return { first, second, image, at, [Symbol.asyncDispose]: dispose }
}

describe('a first endpoint that says nothing', () => {
  test('costs one timeout, however often the second is asked instead', async () => {
    await using x = await two({ breaker: { openMs: 60_000 } })
    x.first.fault(HANG)
    const startedAt = Date.now()
    for (let times = 0; times < 5; times++) {
      expect((await pull(x.at)).endpoint).toBe(`${x.second.url}/v2`)
    }
    expect(Date.now() - startedAt).toBeLessThan(1500)
    expect(x.first.requests).toHaveLength(1)
    expect(x.at.client.health.stateOf(x.at.endpoints[0]!)).toBe('open')
  })

  test('costs one timeout, too, where it is its token server', async () => {
    await using tokens = await startTokenServer()
    await using first = await startRegistry({ auth: { kind: 'token', tokens } })
    await using second = await startRegistry()
    second.addImage('library/alpine', 'latest')
    tokens.fault(HANG)
    await using at = upstreamOver([first.url, second.url], { breaker: { openMs: 60_000 } })
    const startedAt = Date.now()
    for (let times = 0; times < 5; times++) {
      expect((await pull(at)).endpoint).toBe(`${second.url}/v2`)
    }
    expect(Date.now() - startedAt).toBeLessThan(2000)
    expect(first.requests).toHaveLength(1)
  })

  test('is probed behind the requests, and asked again once it answers', async () => {
    await using x = await two()
    const fault = x.first.fault(HANG)
    await pull(x.at)
    await sleep(2 * OPEN_MS)
    const startedAt = Date.now()
    await pull(x.at)
    expect(Date.now() - startedAt).toBeLessThan(300)
    fault.remove()
    await expect
      .poll(async () => (await pull(x.at)).endpoint, { timeout: 4000, interval: 20 })
      .toBe(`${x.first.url}/v2`)
    const states = x.at.client.health.report()
    expect([...states].map(({ state }) => state)).toEqual(['ok', 'ok'])
  })

  test('keeps a 404 of the second from being the last word, without being waited for', async () => {
    await using x = await two({ breaker: { openMs: 60_000 } })
    x.first.fault(HANG)
    await pull(x.at)
    const startedAt = Date.now()
    const missing = x.at.upstream.getManifest(REPO, 'none', x.at.requester)
    expect(await failureOf(missing)).toMatchObject({ kind: 'unavailable', reason: 'timed-out' })
    expect(Date.now() - startedAt).toBeLessThan(300)
  })

  test('is asked all the same where the second fails too', async () => {
    await using x = await two({ breaker: { openMs: 60_000 } })
    const fault = x.first.fault(HANG)
    await pull(x.at)
    fault.remove()
    x.second.fault({ status: 500 })
    expect((await pull(x.at)).endpoint).toBe(`${x.first.url}/v2`)
  })
})

describe('an endpoint', () => {
  test('that fails at once opens after three in a row, and is told of when that changes', async () => {
    const told: string[] = []
    await using x = await two({
      breaker: { openMs: 60_000 },
      observer: {
        upstreamRequest: () => undefined,
        upstreamBytes: () => undefined,
        upstreamFailure: () => undefined,
        tokenRequest: () => undefined,
        endpointState: ({ former, state }) => void told.push(`${former} ${state}`),
      },
    })
    x.first.fault({ status: 503 })
    for (let times = 0; times < 5; times++) await pull(x.at)
    expect(x.first.requests).toHaveLength(3)
    expect(told).toEqual(['ok open'])
  })

  test('that is the only one is asked by one request while the others wait for its outcome', async () => {
    await using registry = await startRegistry()
    registry.fault(HANG)
    await using at = upstreamOver([registry.url], { breaker: { openMs: 60_000 } })
    await failureOf(pull(at))
    const startedAt = Date.now()
    const failures = await Promise.all(Array.from({ length: 20 }, () => failureOf(pull(at))))
    expect(failures.every(({ reason }) => reason === 'timed-out')).toBe(true)
    expect(Date.now() - startedAt).toBeLessThan(1500)
    expect(registry.requests).toHaveLength(2)
    registry.clearFaults()
    registry.addImage('library/alpine', 'latest')
    await Promise.all(Array.from({ length: 20 }, () => pull(at)))
  })

  test('does not fail those who wait because the one who asked has left', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    registry.fault(HANG)
    await using at = upstreamOver([registry.url], { breaker: { openMs: 60_000 } })
    await failureOf(pull(at))
    const leaving = new AbortController()
    const left = at.upstream.getManifest(REPO, 'latest', at.requester, leaving.signal)
    const waiting = [pull(at), pull(at)]
    await sleep(50)
    registry.clearFaults()
    leaving.abort(new Error('left'))
    await expect(left).rejects.toThrow('left')
    expect(await Promise.all(waiting)).toHaveLength(2)
  })

  test('whose storage host is down gives manifests in its turn, and blobs last', async () => {
    await using storage = await startStorageHost()
    await using registry = await startRegistry({ redirectBlobs: storage })
    const { digest } = registry.addBlob(Buffer.from('content'))
    registry.addImage('library/alpine', 'latest')
    storage.fault(HANG)
    await using other = await startRegistry()
    await using at = upstreamOver([registry.url, other.url], { breaker: { openMs: 60_000 } })
    const [source] = at.upstream.blobSources(REPO, at.requester)
    expect(source?.health).toBe('ok')
    await failureOf(source!.fetch(digest, { start: 0 }, signal))
    expect(source?.health).toBe('open')
    const origins = at.upstream.blobSources(REPO, at.requester).map(({ origin }) => origin)
    expect(origins).toEqual([`${other.url}/v2`, `${registry.url}/v2`])
    expect((await pull(at)).endpoint).toBe(`${registry.url}/v2`)
  })

  test('that is looked after in the background is known to be down before anybody asks', async () => {
    await using x = await two({ breaker: { openMs: 60_000 } })
    await x.first.close()
    using _ = new Probing({ client: x.at.client, endpoints: x.at.endpoints, everyMs: 20 })
    await expect.poll(() => x.at.client.health.stateOf(x.at.endpoints[0]!)).toBe('open')
    expect(x.at.client.health.stateOf(x.at.endpoints[1]!)).toBe('ok')
  })
})

describe('a rate limit', () => {
  const LIMITED = { status: 429, headers: { 'retry-after': '30' } }

  test('is kept to until its time is over, while others are asked', async () => {
    const clock = { now: Date.now() }
    await using x = await two({ now: () => clock.now })
    const fault = x.first.fault(LIMITED)
    for (let times = 0; times < 3; times++) await pull(x.at)
    expect(x.first.requests).toHaveLength(1)
    const sources = x.at.upstream.blobSources(REPO, x.at.requester)
    expect(sources.map(({ health }) => health)).toEqual(['ok', 'limited'])
    fault.remove()
    clock.now += 30_000
    expect((await pull(x.at)).endpoint).toBe(`${x.first.url}/v2`)
  })

  test('of the only endpoint is told at once, with the time that is left', async () => {
    const clock = { now: Date.now() }
    await using registry = await startRegistry()
    registry.fault(LIMITED)
    await using at = upstreamOver([registry.url], { now: () => clock.now })
    await failureOf(pull(at))
    clock.now += 12_000
    const failure = await failureOf(pull(at))
    expect(failure).toMatchObject({ kind: 'rate-limited', retryAfterMs: 18_000 })
    expect(registry.requests).toHaveLength(1)
    expect(at.events.failures).toHaveLength(1)
  })

  test('of manifests does not keep blobs from being fetched', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(Buffer.from('content'))
    registry.fault({ match: { kind: 'manifest' }, ...LIMITED })
    await using at = upstreamOver([registry.url])
    await failureOf(pull(at))
    const [source] = at.upstream.blobSources(REPO, at.requester)
    const { body } = await source!.fetch(digest, { start: 0 }, signal)
    body.discard()
  })

  test('is read from the answers, and of several credentials the one with most left is used', async () => {
    await using registry = await startRegistry({
      auth: { kind: 'basic', username: 'a', password: 'p' },
    })
    registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([registry.url])
    const { rateLimits } = at.client.health
    const auth = ['a', 'b'].map((username) => ({ username, password: 'p' }))
    const hosts = { [registry.host]: { auth } }
    const credentials = new ConfiguredCredentials({ hosts, rateLimits })
    const users = async (times: number) => {
      const given: string[] = []
      for (let i = 0; i < times; i++) {
        const credential = await credentials.credentialFor(at.endpoints[0]!)
        given.push(credential.kind === 'basic' ? credential.username : '')
      }
      return given.join('')
    }
    expect(await users(4)).toBe('abab')
    const headers = { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '5;w=21600' }
    registry.fault({ headers })
    await at.upstream.getManifest(REPO, 'latest', { credentials })
    expect(await users(3)).toBe('bbb')
    expect(at.upstream.budget(REPO)).toEqual({ limit: 100, remaining: 5, low: true })
    const [report] = rateLimits.report()
    expect(report).toMatchObject({ endpoint: `${registry.url}/v2`, limit: 100, remaining: 5 })
  })
})

describe('how far an endpoint is', () => {
  test('is what its quickest answers took: a slow one among them says little', async () => {
    await using x = await two()
    const [source] = x.at.upstream.blobSources(REPO, x.at.requester)
    expect(source!.latencyMs).toBeUndefined()
    await pull(x.at)
    const near = source!.latencyMs!
    expect(near).toBeGreaterThan(0)
    x.first.fault({ delayMs: 400 })
    await pull(x.at)
    expect(source!.latencyMs!).toBeGreaterThan(near)
    expect(source!.latencyMs!).toBeLessThan(near + 200)
  })
})
