// An endpoint that fails and says when it wants to be asked again.
import { describe, expect, test } from 'vitest'

import type { ClientOptions } from '../../../src/upstream/client/client.ts'
import { startRegistry } from '../../support/registry.ts'
import { startStorageHost } from '../../support/storage-host.ts'
import { failureOf, REPO, upstreamOver, type Fixture } from '../upstream-fixture.ts'

const AWAY = { status: 503, headers: { 'retry-after': '30' } }
const { signal } = new AbortController()

function pull(at: Fixture) {
  return at.upstream.getManifest(REPO, 'latest', at.requester)
}

async function two() {
  const clock = { now: Date.now() }
  const [first, second] = [await startRegistry(), await startRegistry()]
  for (const registry of [first, second]) registry.addImage('library/alpine', 'latest')
  const options: Partial<ClientOptions> = { now: () => clock.now }
  const at = upstreamOver([first.url, second.url], options)
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await Promise.all([first.close(), second.close()])
  }
  return { clock, first, second, at, [Symbol.asyncDispose]: dispose }
}

describe('Retry-After of an endpoint that fails', () => {
  test('is believed at once, so that others are asked until then', async () => {
    await using x = await two()
    x.first.fault(AWAY)
    for (let times = 0; times < 3; times++) {
      expect((await pull(x.at)).endpoint).toBe(`${x.second.url}/v2`)
    }
    expect(x.first.requests).toHaveLength(1)
    expect(x.at.client.health.stateOf(x.at.endpoints[0]!)).toBe('open')
    x.clock.now += 29_999
    await pull(x.at)
    expect(x.first.requests).toHaveLength(1)
  })

  test('ends when its time has come', async () => {
    await using x = await two()
    const fault = x.first.fault(AWAY)
    await pull(x.at)
    fault.remove()
    x.clock.now += 40_000
    await expect
      .poll(async () => (await pull(x.at)).endpoint, { interval: 20 })
      .toBe(`${x.first.url}/v2`)
  })

  test('also holds where nobody else can help, and the time left is reported', async () => {
    await using x = await two()
    x.first.fault(AWAY)
    x.second.fault({ status: 503, headers: { 'retry-after': '60' } })
    await failureOf(pull(x.at))
    x.clock.now += 12_000
    const failure = await failureOf(pull(x.at))
    expect(failure).toMatchObject({
      reason: 'server-error',
      status: 503,
      kind: 'unavailable',
      retryAfterMs: 18_000,
    })
    expect(failure.message).toContain('not asked for another 18 s')
    expect([x.first.requests.length, x.second.requests.length]).toEqual([1, 1])
    expect(x.at.events.failures).toHaveLength(2)
  })

  test('is observed for at most five minutes', async () => {
    await using x = await two()
    const fault = x.first.fault({ status: 503, headers: { 'retry-after': '86400' } })
    x.second.fault({ status: 500 })
    await failureOf(pull(x.at))
    fault.remove()
    x.clock.now += 299_999
    await failureOf(pull(x.at))
    x.clock.now += 1
    expect((await pull(x.at)).endpoint).toBe(`${x.first.url}/v2`)
  })

  test('that comes from its storage host does not keep manifests from being fetched', async () => {
    await using storage = await startStorageHost()
    await using registry = await startRegistry({ redirectBlobs: storage })
    const { digest } = registry.addBlob(Buffer.from('content'))
    registry.addImage('library/alpine', 'latest')
    storage.fault(AWAY)
    await using at = upstreamOver([registry.url])
    const fetch = () => {
      const [source] = at.upstream.blobSources(REPO, at.requester)
      return failureOf(source!.fetch(digest, 0, signal))
    }
    await fetch()
    expect(await fetch()).toMatchObject({ reason: 'server-error', status: 503 })
    expect(storage.requests).toHaveLength(1)
    expect((await pull(at)).endpoint).toBe(`${registry.url}/v2`)
  })
})
