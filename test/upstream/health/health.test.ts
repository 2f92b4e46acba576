// How the way to several endpoints changes with how they fare, over real sockets.
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'

import { ConfiguredCredentials } from '../../../src/upstream/credentials/configured.ts'
import type { ClientOptions } from '../../../src/upstream/client/client.ts'
import { Probing } from '../../../src/upstream/client/probing.ts'
import { startRegistry } from '../../support/registry.ts'
import { startStorageHost } from '../../support/storage-host.ts'
import { startTokenServer } from '../../support/token-server.ts'
import { collect, failureOf, REPO, upstreamOver, type Fixture } from '../upstream-fixture.ts'
import { until } from '../../support/until.ts'

const { signal } = new AbortController()
const HANG = { stall: 'headers' } as const
const UNAVAILABLE_FOR_30_S = { status: 503, headers: { 'retry-after': '30' } }
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
  test.concurrent('costs one timeout, however often the second is asked instead', async () => {
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

  test.concurrent('also costs one timeout where it is its token server', async () => {
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

  test.concurrent('keeps a 404 of the second from being final, without being waited for', async () => {
    await using x = await two({ breaker: { openMs: 60_000 } })
    x.first.fault(HANG)
    await pull(x.at)
    const startedAt = Date.now()
    const missing = x.at.upstream.getManifest(REPO, 'none', x.at.requester)
    expect(await failureOf(missing)).toMatchObject({ kind: 'unavailable', reason: 'timed-out' })
    expect(Date.now() - startedAt).toBeLessThan(300)
  })

  test.concurrent('is still asked where the second fails too', async () => {
    await using x = await two({ breaker: { openMs: 60_000 } })
    const fault = x.first.fault(HANG)
    await pull(x.at)
    fault.remove()
    x.second.fault({ status: 500 })
    expect((await pull(x.at)).endpoint).toBe(`${x.first.url}/v2`)
  })

  test('is probed in the background, and asked again once it answers', async () => {
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
})

describe('an endpoint', () => {
  test('that fails at once has its breaker opened after three in a row, and changes are reported', async () => {
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

  test.concurrent('that is the only one is asked by one request while the others wait for its outcome', async () => {
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

  test.concurrent('does not fail waiting requests because the one that asked has left', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    registry.fault(HANG)
    await using at = upstreamOver([registry.url], { breaker: { openMs: 60_000 } })
    await failureOf(pull(at))
    const leaving = new AbortController()
    const left = at.upstream.getManifest(REPO, 'latest', at.requester, leaving.signal)
    const waiting = [pull(at), pull(at)]
    await until(() => registry.requests.length === 2)
    registry.clearFaults()
    leaving.abort(new Error('left'))
    await expect(left).rejects.toThrow('left')
    expect(await Promise.all(waiting)).toHaveLength(2)
  })

  test.concurrent('whose storage host is down is asked for manifests in its turn, and for blobs last', async () => {
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

  test('that is probed in the background is known to be down before anybody asks', async () => {
    await using x = await two({ breaker: { openMs: 60_000 } })
    await x.first.close()
    using _ = new Probing({ client: x.at.client, endpoints: x.at.endpoints, everyMs: 20 })
    await expect.poll(() => x.at.client.health.stateOf(x.at.endpoints[0]!)).toBe('open')
    expect(x.at.client.health.stateOf(x.at.endpoints[1]!)).toBe('ok')
  })
})

/** [mirror, registry]; the registry has failed three times and works again, the mirror works. */
async function recovered(options: Partial<ClientOptions> = {}) {
  const clock = { now: Date.now() }
  const [mirror, registry] = [await startRegistry(), await startRegistry()]
  mirror.addImage('library/alpine', 'latest')
  const at = upstreamOver([mirror.url, registry.url], {
    breaker: { openMs: 1000, random: () => 0.5 },
    now: () => clock.now,
    ...options,
  })
  const fault = registry.fault({ status: 503 })
  for (let times = 0; times < 3; times++) {
    await failureOf(at.upstream.getManifest(REPO, 'missing', at.requester))
  }
  fault.remove()
  const [, endpoint] = at.endpoints
  const health = at.client.health
  expect(health.stateOf(endpoint!)).toBe('open')
  const pullFromRegistry = async (tag: string) => {
    return (await at.upstream.getManifest(REPO, tag, at.requester)).endpoint
  }
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await Promise.all([mirror.close(), registry.close()])
  }
  return {
    clock,
    mirror,
    registry,
    at,
    health,
    endpoint: endpoint!,
    pullFromRegistry,
    [Symbol.asyncDispose]: dispose,
  }
}

describe('an endpoint that works again behind one that has answered all the while', () => {
  test('serves what only it has, after any number of requests that the first one served', async () => {
    await using x = await recovered()
    x.registry.addImage('library/alpine', 'only-here')
    x.clock.now += 1000
    for (let times = 0; times < 5; times++) {
      await pull(x.at)
      await expect.poll(() => x.health.stateOf(x.endpoint)).toBe('ok')
    }
    expect(await x.pullFromRegistry('only-here')).toBe(`${x.registry.url}/v2`)
  })

  test('serves the first requests for what only it has once its time has come, none of them fails', async () => {
    await using x = await recovered()
    const tags = ['one', 'two', 'three', 'four']
    for (const tag of tags) x.registry.addImage('library/alpine', tag)
    x.registry.fault({ match: { kind: 'ping' }, delayMs: 100 })
    x.clock.now += 1000
    const endpoints = await Promise.all(tags.map(x.pullFromRegistry))
    expect(new Set(endpoints)).toEqual(new Set([`${x.registry.url}/v2`]))
  })

  test('is tried by one request where nobody could probe it, and the others wait for that one', async () => {
    await using x = await recovered()
    for (const tag of ['one', 'two', 'three']) x.registry.addImage('library/alpine', tag)
    x.clock.now += 1000
    await x.at.client.probe(x.endpoint)
    const endpoints = await Promise.all(['one', 'two', 'three'].map(x.pullFromRegistry))
    expect(new Set(endpoints)).toEqual(new Set([`${x.registry.url}/v2`]))
    expect(x.health.stateOf(x.endpoint)).toBe('ok')
  })

  test('is not probed while its time has not come', async () => {
    await using x = await recovered()
    x.clock.now += 900
    await pull(x.at)
    const failure = await failureOf(x.pullFromRegistry('missing'))
    expect(failure).toMatchObject({ reason: 'server-error', endpoint: x.endpoint.key })
    expect(x.registry.requests).toHaveLength(3)
  })

  test('is left alone for longer each time when it answers probes but no requests', async () => {
    await using x = await recovered()
    x.registry.fault({ match: { kind: 'manifest' }, status: 503 })
    for (const openMs of [1000, 2000, 4000]) {
      x.clock.now += openMs - 1
      await x.at.client.probe(x.endpoint)
      // The first probe is believed at once, later ones only when the open time is over.
      expect(x.health.stateOf(x.endpoint)).toBe(openMs === 1000 ? 'ok' : 'open')
      x.clock.now += 1
      await x.at.client.probe(x.endpoint)
      expect(x.health.stateOf(x.endpoint)).toBe('ok')
      await failureOf(x.pullFromRegistry('missing'))
      expect(x.health.stateOf(x.endpoint)).toBe('open')
    }
  })

  test('is not asked before the time that it named, whatever it answers to a probe', async () => {
    await using x = await recovered()
    x.clock.now += 1000
    x.registry.fault({ match: { kind: 'manifest' }, times: 1, ...UNAVAILABLE_FOR_30_S })
    await x.at.client.probe(x.endpoint)
    await failureOf(x.pullFromRegistry('missing'))
    await x.at.client.probe(x.endpoint)
    expect(x.health.stateOf(x.endpoint)).toBe('open')
    x.clock.now += 30_000
    await x.at.client.probe(x.endpoint)
    expect(x.health.stateOf(x.endpoint)).toBe('ok')
  })
})

describe('looking at sources without reading from them', () => {
  test('uses up no turn: those of the only endpoint stay the first choice', async () => {
    const clock = { now: Date.now() }
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(Buffer.from('content'))
    await using at = upstreamOver([registry.url], {
      breaker: { threshold: 1, openMs: 1000, random: () => 0.5 },
      now: () => clock.now,
    })
    const fault = registry.fault({ match: { kind: 'blob' }, status: 503 })
    const sources = () => at.upstream.blobSources(REPO, at.requester)
    await failureOf(sources()[0]!.fetch(digest, 0, signal))
    fault.remove()
    expect(sources()[0]!.health).toBe('open')
    clock.now += 1000
    for (let times = 0; times < 3; times++) expect(sources()[0]!.health).toBe('ok')
    expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('open')
    const { body } = await sources()[0]!.fetch(digest, 0, signal)
    expect((await collect(body)).toString()).toBe('content')
    expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('ok')
  })

  test('probes nobody, and reading from one probes the others whose time has come', async () => {
    await using x = await recovered()
    const { digest } = x.mirror.addBlob(Buffer.from('content'))
    x.clock.now += 1000
    const [source] = x.at.upstream.blobSources(REPO, x.at.requester)
    expect(source!.origin).toBe(`${x.mirror.url}/v2`)
    expect(x.health.stateOf(x.endpoint)).toBe('open')
    await collect((await source!.fetch(digest, 0, signal)).body)
    await expect.poll(() => x.health.stateOf(x.endpoint)).toBe('ok')
  })
})

describe('content that broke', () => {
  test('is tried by one download at a time, until its end shows whether it works', async () => {
    const clock = { now: Date.now() }
    await using first = await startRegistry()
    await using second = await startRegistry()
    const content = Buffer.alloc(200_000, 'x')
    const { digest } = first.addBlob(content)
    second.addBlob(content)
    await using at = upstreamOver([first.url, second.url], {
      breaker: { threshold: 1, openMs: 1000, random: () => 0.5 },
      now: () => clock.now,
    })
    const origins = () => at.upstream.blobSources(REPO, at.requester).map(({ origin }) => origin)
    const read = async () => {
      const [source] = at.upstream.blobSources(REPO, at.requester)
      return await source!.fetch(digest, 0, signal)
    }
    first.fault({ match: { kind: 'blob' }, times: 1, cutAfter: 100 })
    await failureOf(collect((await read()).body))
    const inTurn = [`${first.url}/v2`, `${second.url}/v2`]
    expect(origins()).toEqual(inTurn.toReversed())
    clock.now += 1000
    await at.client.probe(at.endpoints[0]!)
    expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('ok')
    expect(origins()).toEqual(inTurn)
    const tried = await read()
    expect(origins()).toEqual(inTurn.toReversed())
    tried.body.discard()
    expect(origins()).toEqual(inTurn)
    const { body } = await read()
    expect((await collect(body)).equals(content)).toBe(true)
    expect(origins()).toEqual(inTurn)
    expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('ok')
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

  test('of the only endpoint is reported at once, with the time that is left', async () => {
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

  test('is read from responses, and of several credentials the one with most left is used', async () => {
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
  test('is measured by its quickest responses, so that a slow one among them changes little', async () => {
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
