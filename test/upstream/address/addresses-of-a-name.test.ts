// A name with several addresses, and DNS that fails: what a pull makes of them.
import type { LookupAddress } from 'node:dns'
import { describe, expect, test } from 'vitest'

import { Proxy } from '../../../src/upstream/network/proxy/egress-proxy.ts'
import { Resolver } from '../../../src/upstream/address/resolver.ts'
import { openBlackHole } from '../../support/black-hole.ts'
import { startHttpProxy } from '../../support/proxy-server.ts'
import { startRegistry } from '../../support/registry.ts'
import { failureOf, REPO, upstreamOver, type FixtureOptions } from '../upstream-fixture.ts'

const DEAD = '127.88.0.1'
const REFUSED = '127.88.0.2'
const v4 = (address: string): LookupAddress => ({ address, family: 4 })

/** A registry whose name has these addresses before its own. */
async function behind(before: string[], options: FixtureOptions = {}) {
  const registry = await startRegistry()
  registry.addImage('library/alpine', 'latest')
  registry.fault({ headers: { connection: 'close' } })
  const dns = { answer: () => Promise.resolve([...before, '127.0.0.1'].map(v4)), asked: 0 }
  const resolver = new Resolver({
    ask: () => {
      dns.asked += 1
      return dns.answer()
    },
  })
  const at = upstreamOver([`http://registry.test:${registry.port}`], { resolver, ...options })
  const pull = () => at.upstream.getManifest(REPO, 'latest', at.requester)
  const dispose = async () => {
    await at[Symbol.asyncDispose]()
    await registry.close()
  }
  return { registry, dns, pull, at, [Symbol.asyncDispose]: dispose }
}

describe('of several addresses', () => {
  test('one that refuses costs nothing', async () => {
    await using x = await behind([REFUSED, REFUSED])
    expect(await x.pull()).toMatchObject({ bytes: expect.anything() })
  })

  test('one that does not answer is skipped within the limit for a connection, and then comes last', async () => {
    const limits = { connectTimeoutMs: 3000 }
    await using x = await behind([DEAD], { limits })
    await using _ = await openBlackHole(DEAD, x.registry.port)
    const times: number[] = []
    for (let i = 0; i < 2; i++) {
      const startedAt = Date.now()
      await x.pull()
      times.push(Date.now() - startedAt)
    }
    expect(times[0]).toBeGreaterThan(900)
    expect(times[0]).toBeLessThan(3000)
    expect(times[1]).toBeLessThan(900)
  })

  test('one of a proxy is skipped in the same way', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    await using proxy = await startHttpProxy({ leads: { 'registry.test': registry.host } })
    await using _ = await openBlackHole(DEAD, proxy.port)
    const resolver = new Resolver({ ask: () => Promise.resolve([v4(DEAD), v4('127.0.0.1')]) })
    const hosts = { 'registry.test': { proxy: new Proxy(`http://proxy.test:${proxy.port}`) } }
    const limits = { connectTimeoutMs: 900 }
    await using at = upstreamOver(['http://registry.test'], { resolver, hosts, limits })
    await at.upstream.getManifest(REPO, 'latest', at.requester)
    expect(proxy.requests).toHaveLength(1)
  })
})

describe('a resolver that fails', () => {
  test('does not prevent new connections to the last known address', async () => {
    await using x = await behind([])
    await x.pull()
    x.dns.answer = () => Promise.reject(Object.assign(new Error('x'), { code: 'EAI_AGAIN' }))
    await x.pull()
    expect([x.dns.asked, x.registry.accepted]).toEqual([2, 2])
  })

  test('fails for a name that was never known', async () => {
    await using x = await behind([])
    x.dns.answer = () => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' }))
    expect(await failureOf(x.pull())).toMatchObject({ reason: 'name-not-resolved' })
  })
})
