// An endpoint that answers, but whose bodies do not come to their end: when that counts against it.
import { describe, expect, test } from 'vitest'

import type { Digest } from '../../../src/oci/digest.ts'
import type { ClientOptions } from '../../../src/upstream/client/client.ts'
import type { Fault } from '../../support/faults.ts'
import { startRegistry } from '../../support/registry.ts'
import { startStorageHost } from '../../support/storage-host.ts'
import { collect, failureOf, REPO, upstreamOver, type Fixture } from '../upstream-fixture.ts'
import { until } from '../../support/until.ts'

const { signal } = new AbortController()
const MIB = 1024 * 1024
const FOR_LONG: Partial<ClientOptions> = { breaker: { openMs: 60_000 } }
const BLOBS = { kind: 'blob', method: 'GET' } as const

async function world(options: Partial<ClientOptions> = FOR_LONG, bytes = 3 * MIB) {
  const registry = await startRegistry()
  const { digest } = registry.addBlob(Buffer.alloc(bytes, 'x'))
  const small = registry.addBlob(Buffer.from('small')).digest
  registry.addImage('library/alpine', 'latest')
  const at = upstreamOver([registry.url], options)
  const fault = (what: Fault) => registry.fault({ match: BLOBS, ...what })
  const state = () => at.client.health.stateOf(at.endpoints[0]!)
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await registry.close()
  }
  return { registry, digest, small, at, fault, state, [Symbol.asyncDispose]: dispose }
}

async function fetch(at: Fixture, digest: Digest, range: { start: number; end?: number } | number) {
  const [source] = at.upstream.blobSources(REPO, at.requester)
  const { body } = await source!.fetch(digest, range, signal)
  return await collect(body)
}

async function breakOff(at: Fixture, digest: Digest, times: number) {
  for (let i = 0; i < times; i++) await failureOf(fetch(at, digest, 0))
}

function pull(at: Fixture) {
  return at.upstream.getManifest(REPO, 'latest', at.requester)
}

describe('blobs that break in the middle', () => {
  test('open the breaker after three in a row, though every one of them began', async () => {
    await using x = await world()
    x.fault({ cutAfter: 100 })
    await breakOff(x.at, x.digest, 2)
    expect(x.state()).toBe('ok')
    await breakOff(x.at, x.digest, 1)
    expect(x.state()).toBe('open')
    const [report] = x.at.client.health.report()
    expect(report?.message).toContain('closed in the middle')
  })

  test('open the breaker also where HEAD, manifests and single bytes work', async () => {
    await using x = await world()
    x.fault({ match: { ...BLOBS, digest: x.digest }, cutAfter: 100 })
    for (let i = 0; i < 3; i++) {
      await breakOff(x.at, x.digest, 1)
      await x.at.upstream.headBlob(REPO, x.digest, x.at.requester)
      await fetch(x.at, x.small, { start: 0, end: 1 })
      await pull(x.at)
    }
    expect(x.state()).toBe('open')
    const { health } = x.at.client
    const [endpoint] = x.at.endpoints
    expect(health.stateOf(endpoint!, 'metadata')).toBe('ok')
    expect(health.stateOf(endpoint!, 'content')).toBe('open')
  })

  test('are counted again from one after one that was completed', async () => {
    await using x = await world()
    x.fault({ match: { ...BLOBS, digest: x.digest }, cutAfter: 100 })
    for (let i = 0; i < 3; i++) {
      await breakOff(x.at, x.digest, 2)
      await fetch(x.at, x.small, 0)
    }
    expect(x.state()).toBe('ok')
  })

  test.concurrent('are one failure where they broke at the same time', async () => {
    await using x = await world()
    x.fault({ stall: { afterBytes: 100 } })
    const all = Array.from({ length: 6 }, () => failureOf(fetch(x.at, x.digest, 0)))
    expect(new Set((await Promise.all(all)).map(({ reason }) => reason))).toEqual(
      new Set(['timed-out']),
    )
    expect(x.state()).toBe('ok')
  })

  test.concurrent('weigh less where much came before', async () => {
    await using x = await world()
    x.fault({ cutAfter: 1.5 * MIB })
    await breakOff(x.at, x.digest, 11)
    expect(x.state()).toBe('ok')
    await breakOff(x.at, x.digest, 1)
    expect(x.state()).toBe('open')
  })

  test.concurrent('count where they are behind a redirect', async () => {
    await using storage = await startStorageHost()
    await using registry = await startRegistry({ redirectBlobs: storage })
    const { digest } = registry.addBlob(Buffer.alloc(1000))
    storage.fault({ cutAfter: 100 })
    await using at = upstreamOver([registry.url], FOR_LONG)
    await breakOff(at, digest, 3)
    expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('open')
  })

  test.concurrent('do not count where the reader left', async () => {
    await using x = await world()
    for (let i = 0; i < 5; i++) {
      const [source] = x.at.upstream.blobSources(REPO, x.at.requester)
      const leaving = new AbortController()
      const { body } = await source!.fetch(x.digest, 0, leaving.signal)
      const reading = collect(body)
      leaving.abort(new Error('left'))
      await expect(reading).rejects.toThrow('left')
      const { body: unwanted } = await source!.fetch(x.digest, 0, signal)
      unwanted.discard()
    }
    expect(x.state()).toBe('ok')
  })

  test.concurrent('and stall from the start count at once, but not while others flow', async () => {
    await using x = await world({ ...FOR_LONG, limits: { bodyStallMs: 300 } })
    x.fault({ match: { ...BLOBS, digest: x.digest }, stall: { afterBytes: 0 } })
    const stalled = failureOf(fetch(x.at, x.digest, 0))
    await until(() => x.registry.requestsFor(x.digest).some(({ status }) => status === 200))
    await fetch(x.at, x.small, 0)
    await stalled
    expect(x.state()).toBe('ok')
    await breakOff(x.at, x.digest, 1)
    expect(x.state()).toBe('open')
  })

  test('close the breaker again with the first that is completed, and not by an answer to an early probe', async () => {
    const clock = { now: Date.now() }
    const breaker = { openMs: 1000, random: () => 0.5 }
    await using x = await world({ breaker, now: () => clock.now })
    const fault = x.fault({ cutAfter: 100 })
    await breakOff(x.at, x.digest, 3)
    await x.at.client.probe(x.at.endpoints[0]!)
    const readiness = () => x.at.client.health.readiness(x.at.endpoints[0]!, 'content')
    expect([x.state(), readiness()]).toEqual(['open', 'open'])
    clock.now += 1000
    expect([x.state(), readiness()]).toEqual(['open', 'due'])
    await breakOff(x.at, x.digest, 1)
    expect(x.state()).toBe('open')
    fault.remove()
    clock.now += 2000
    await fetch(x.at, x.digest, 0)
    expect(x.state()).toBe('ok')
  })
})

/** Two registries; the first's manifests suffer from this. */
async function two(fault: Fault, options: Partial<ClientOptions> = FOR_LONG) {
  const [first, second] = [await startRegistry(), await startRegistry()]
  for (const registry of [first, second]) registry.addImage('library/alpine', 'latest')
  const { digest } = first.addBlob(Buffer.from('content'))
  first.fault({ match: { kind: 'manifest', method: 'GET' }, ...fault })
  const at = upstreamOver([first.url, second.url], options)
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await Promise.all([first.close(), second.close()])
  }
  return { first, second, digest, at, [Symbol.asyncDispose]: dispose }
}

describe('documents that do not come to their end', () => {
  test('are requested elsewhere after three in a row although HEAD works, and blobs are not', async () => {
    await using x = await two({ cutAfter: 10 })
    for (let i = 0; i < 6; i++) {
      await x.at.upstream.headManifest(REPO, 'latest', x.at.requester)
      expect((await pull(x.at)).endpoint).toBe(`${x.second.url}/v2`)
    }
    const gets = x.first.requests.filter(({ method }) => method === 'GET')
    expect(gets).toHaveLength(3)
    const sources = x.at.upstream.blobSources(REPO, x.at.requester)
    expect(sources.map(({ health, origin }) => [health, origin])).toEqual([
      ['ok', `${x.first.url}/v2`],
      ['ok', `${x.second.url}/v2`],
    ])
  })

  test.concurrent('cost one time limit, not one per request: those that stand still', async () => {
    await using x = await two({ stall: { afterBytes: 10 } })
    for (let i = 0; i < 3; i++) await pull(x.at)
    expect(x.first.requests).toHaveLength(1)
  })

  test.concurrent('cost one time limit, not one per request: those that drip', async () => {
    const limits = { documentTimeoutMs: 300 }
    await using x = await two({ drip: { bytes: 1, everyMs: 50 } }, { ...FOR_LONG, limits })
    for (let i = 0; i < 3; i++) await pull(x.at)
    expect(x.first.requests).toHaveLength(1)
  })
})
