// Rate limits: short ones are waited for where nothing is held, by all who want the same together;
// and while little is left, it goes to what nobody has.
import { describe, it } from 'vitest'
import { NAME, openCaches, REPO, type CachesFixture } from '../manifest-caches-fixture.ts'
import { until } from '../../support/until.ts'

const MINUTE = 60_000
const ONCE = { status: 429, headers: { 'retry-after': '1' }, times: 1 }
const FOR_LONG = { status: 429, headers: { 'retry-after': '60' } }
const LITTLE_LEFT = {
  headers: { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '5;w=21600' },
}

const gets = (f: CachesFixture, count: number, reference: string) =>
  Promise.all(
    Array.from({ length: count }, () => f.caches.manifests.get(REPO, reference, f.requester)),
  )

describe.concurrent('a rate limit that ends soon', () => {
  it('is waited for by all who want one cold tag together', async ({ expect }) => {
    await using f = await openCaches({ runs: true })
    const image = f.registry.addImage(NAME, 'latest')
    f.registry.fault({ match: { kind: 'manifest' }, ...ONCE })
    const startedAt = performance.now()
    const first = gets(f, 10, 'latest')
    await until(() => f.registry.requests.length > 0)
    const all = [...(await gets(f, 10, 'latest')), ...(await first)]
    expect(all.every(({ bytes }) => bytes?.equals(image.bytes))).toBe(true)
    expect(performance.now() - startedAt).toBeGreaterThan(990)
    expect(f.asked()).toEqual(['GET latest', 'GET latest'])
  })

  it('is waited for by digest too, with GET and HEAD', async ({ expect }) => {
    for (const each of ['get', 'head'] as const) {
      await using f = await openCaches({ runs: true })
      const { digest } = f.registry.addImage(NAME, 'latest')
      f.registry.fault({ match: { kind: 'manifest' }, ...ONCE })
      expect((await f.caches.manifests[each](REPO, digest, f.requester)).digest).toBe(digest)
      expect(f.asked()).toHaveLength(2)
    }
  })

  it('is waited for when a tag is known but not what it points at', async ({ expect }) => {
    await using f = await openCaches({ runs: true })
    const { digest } = f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.head(REPO, 'latest', f.requester)
    f.clock.now += MINUTE
    f.registry.fault({ match: { kind: 'manifest' }, ...ONCE })
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).digest).toBe(digest)
  })

  it('is waited for to prove who may read what is held', async ({ expect }) => {
    await using f = await openCaches({ runs: true })
    const { digest } = f.registry.addImage(NAME, 'latest')
    f.registry.addImage('team/other', 'latest', { seed: `${NAME}:latest` })
    await f.caches.manifests.get(REPO, digest, f.requester)
    f.registry.fault({ match: { kind: 'manifest' }, ...ONCE })
    const other = { ...REPO, name: 'team/other' }
    const outcome = await f.caches.manifests.get(other, digest, f.requester)
    expect(outcome.cache.detail).toBe('access-checked')
  })

  it('is waited for by lists of tags and of referrers that nobody has', async ({ expect }) => {
    for (const kind of ['tags', 'referrers'] as const) {
      await using f = await openCaches({ runs: true })
      const image = f.registry.addImage(NAME, 'latest')
      f.registry.fault({ match: { kind }, ...ONCE })
      if (kind === 'tags') {
        expect((await f.caches.tags.list(REPO, '', f.requester)).tags).toEqual(['latest'])
      } else {
        const { cache } = await f.caches.referrers.list(REPO, image.digest, f.requester)
        expect(cache.state).toBe('miss')
      }
      expect(f.registry.requests.filter((request) => request.kind === kind)).toHaveLength(2)
    }
  })

  it('is not waited for where something is held', async ({ expect }) => {
    await using f = await openCaches({ freshness: { revalidateTimeoutMs: 900 } })
    const { digest } = f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.caches.referrers.list(REPO, digest, f.requester)
    await f.caches.drain()
    f.clock.now += MINUTE
    f.registry.fault({ status: 429, headers: { 'retry-after': '3' } })
    const startedAt = performance.now()
    const served = await Promise.all([
      f.caches.manifests.get(REPO, 'latest', f.requester),
      f.caches.referrers.list(REPO, digest, f.requester),
      f.caches.tags.list(REPO, '', f.requester),
    ])
    expect(performance.now() - startedAt).toBeLessThan(800)
    expect(served.map(({ cache }) => cache.detail)).toEqual(Array(3).fill('rate-limited'))
    expect(f.observed).toEqual(Array(3).fill('stale: rate-limited'))
  })
})

describe.concurrent('a rate limit that lasts', () => {
  it('leads at once to a 503 with Retry-After, whatever was requested', async ({ expect }) => {
    await using f = await openCaches()
    const { digest } = f.registry.addImage(NAME, 'latest')
    f.registry.fault(FOR_LONG)
    const startedAt = performance.now()
    const outcomes = await Promise.allSettled([
      f.caches.manifests.get(REPO, 'latest', f.requester),
      f.caches.manifests.head(REPO, digest, f.requester),
      f.caches.tags.list(REPO, '', f.requester),
      f.caches.referrers.list(REPO, digest, f.requester),
      f.caches.access.prove(REPO, 'blob', digest, f.requester),
    ])
    expect(performance.now() - startedAt).toBeLessThan(800)
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({
        status: 'rejected',
        reason: {
          status: 503,
          code: 'TOOMANYREQUESTS',
          headers: { 'retry-after': expect.stringMatching(/^(59|60)$/) },
        },
      })
    }
  })
})

describe.concurrent('a registry that grants few more requests', () => {
  it('is not asked about what is held, only for what is not', async ({ expect }) => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    f.registry.addImage(NAME, 'other')
    f.registry.fault({ match: { kind: 'manifest' }, ...LITTLE_LEFT })
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    f.asked()
    f.clock.now += 10 * MINUTE
    const held = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(held.cache).toMatchObject({ state: 'stale', detail: 'budget-low', ttlSeconds: -540 })
    expect(f.observed).toEqual(['stale: budget-low'])
    expect(f.asked()).toEqual([])
    expect((await f.caches.manifests.get(REPO, 'other', f.requester)).cache.state).toBe('miss')
    expect(f.asked()).toEqual(['GET other'])
  })

  it('is asked again after an hour, or when what is held may not be served', async ({ expect }) => {
    await using f = await openCaches({
      freshness: { rules: [{ match: '**:strict', staleIfErrorMs: 0 }] },
    })
    f.registry.fault({ match: { kind: 'manifest' }, ...LITTLE_LEFT })
    for (const tag of ['latest', 'strict']) {
      f.registry.addImage(NAME, tag)
      await f.caches.manifests.get(REPO, tag, f.requester)
    }
    f.clock.now += MINUTE
    const get = async (tag: string) => (await f.caches.manifests.get(REPO, tag, f.requester)).cache
    expect(await get('strict')).toMatchObject({ state: 'revalidated' })
    f.clock.now += 60 * MINUTE - 1
    expect(await get('latest')).toMatchObject({ detail: 'budget-low' })
    f.clock.now += 1
    expect(await get('latest')).toMatchObject({ state: 'revalidated' })
  })

  it('is not asked within staleWhileRevalidate, nor for referrers', async ({ expect }) => {
    await using f = await openCaches({ freshness: { staleWhileRevalidateMs: MINUTE } })
    const { digest } = f.registry.addImage(NAME, 'latest')
    f.registry.fault({ ...LITTLE_LEFT })
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.caches.referrers.list(REPO, digest, f.requester)
    const asked = f.registry.requests.length
    f.clock.now += MINUTE
    const lists = [
      await f.caches.manifests.get(REPO, 'latest', f.requester),
      await f.caches.referrers.list(REPO, digest, f.requester),
    ]
    expect(lists.map(({ cache }) => cache.detail)).toEqual(['budget-low', 'budget-low'])
    expect(f.registry.requests).toHaveLength(asked)
  })
})

describe.concurrent('a cold tag', () => {
  it('costs one counted GET, also when a HEAD came first', async ({ expect }) => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    f.registry.fault({ match: { kind: 'manifest' }, delayMs: 300 })
    const head = f.caches.manifests.head(REPO, 'latest', f.requester)
    // Not before it is on its way: who asks first decides.
    await expect.poll(() => f.asked()).toEqual(['HEAD latest'])
    const all = await gets(f, 20, 'latest')
    expect(all.every(({ bytes }) => bytes?.equals(image.bytes))).toBe(true)
    expect((await head).digest).toBe(image.digest)
    expect(f.asked()).toEqual([`GET ${image.digest}`])
  })

  it('costs one counted GET however the requests fall', async ({ expect }) => {
    await using f = await openCaches()
    for (let i = 0; i < 10; i++) {
      const tag = `tag${i}`
      f.registry.addImage(NAME, tag)
      const all: Promise<unknown>[] = []
      for (let k = 0; k < 40; k++) {
        all.push(f.caches.manifests.get(REPO, tag, f.requester))
        for (let turns = 0; turns < k % 5; turns++) await new Promise(setImmediate)
      }
      await Promise.all(all)
      expect(f.asked()).toEqual([`GET ${tag}`])
    }
  })
})
