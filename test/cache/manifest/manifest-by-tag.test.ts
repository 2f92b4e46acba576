import { describe, expect, it } from 'vitest'
import { until } from '../../support/until.ts'
import { IMPATIENT, NAME, openCaches, REPO } from '../manifest-caches-fixture.ts'

const MINUTE = 60_000

describe('a manifest by tag', () => {
  it('is fetched once, and is a hit from then on', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    const first = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(first).toMatchObject({ digest: image.digest, mediaType: image.mediaType })
    expect(first.bytes?.equals(image.bytes)).toBe(true)
    expect(first.cache).toMatchObject({ state: 'miss', stored: true, fwdStatus: 200 })
    f.clock.now += 19_000
    const second = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(second.cache).toEqual({ state: 'hit', ttlSeconds: 41, ageSeconds: 19 })
    const head = await f.caches.manifests.head(REPO, 'latest', f.requester)
    expect(head).toMatchObject({ digest: image.digest, size: image.bytes.length })
    expect(f.asked()).toEqual(['GET latest'])
  })

  it('is requested once for any number of clients at once', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    f.registry.fault({ match: { kind: 'manifest' }, delayMs: 30 })
    const all = await Promise.all(
      Array.from({ length: 50 }, () => f.caches.manifests.get(REPO, 'latest', f.requester)),
    )
    expect(all.every((served) => served.bytes?.equals(image.bytes))).toBe(true)
    expect(all.map((served) => served.cache.state).toSorted()).toEqual([
      ...Array.from({ length: 49 }, () => 'collapsed'),
      'miss',
    ])
    expect(f.asked()).toEqual(['GET latest'])
  })

  it('gives all waiting clients the same failure', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    f.registry.fault({ match: { kind: 'manifest' }, status: 503, delayMs: 30 })
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10 }, () => f.caches.manifests.get(REPO, 'latest', f.requester)),
    )
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { status: 502 } })
    }
    expect(f.asked().length).toBe(1)
  })

  it('costs a cold HEAD one upstream HEAD, and no GET until one is wanted', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    const head = await f.caches.manifests.head(REPO, 'latest', f.requester)
    expect(head).toMatchObject({ digest: image.digest, size: image.bytes.length })
    expect((await f.caches.manifests.head(REPO, 'latest', f.requester)).cache.state).toBe('hit')
    expect(f.asked()).toEqual(['HEAD latest'])
    const got = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(got.bytes?.equals(image.bytes)).toBe(true)
    expect(got.cache.state).toBe('miss')
    expect(f.asked()).toEqual([`GET ${image.digest}`])
  })

  it('costs a HEAD and a GET at once one counted GET', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    f.registry.fault({ match: { kind: 'manifest' }, delayMs: 20 })
    const { manifests } = f.caches
    const [head, got] = await Promise.all([
      manifests.head(REPO, 'latest', f.requester),
      manifests.get(REPO, 'latest', f.requester),
    ])
    expect(head.digest).toBe(image.digest)
    expect(got.bytes?.equals(image.bytes)).toBe(true)
    expect(f.asked().filter((request) => request.startsWith('GET'))).toHaveLength(1)
    const [got2, head2] = await Promise.all([
      manifests.get({ ...REPO }, 'latest', f.requester),
      manifests.head(REPO, 'latest', f.requester),
    ])
    expect([got2.cache.state, head2.cache.state]).toEqual(['hit', 'hit'])
  })

  it('works with a registry that has no HEAD and no digest header', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    f.registry.fault({ match: { method: 'HEAD' }, status: 405 })
    f.registry.fault({ match: { method: 'GET' }, omitHeaders: ['docker-content-digest'] })
    const head = await f.caches.manifests.head(REPO, 'latest', f.requester)
    expect(head.digest).toBe(image.digest)
    const got = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(got.cache.state).toBe('hit')
    expect(got.bytes?.equals(image.bytes)).toBe(true)
  })

  it('is revalidated with one HEAD when its ttl is over', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    f.asked()
    f.clock.now += MINUTE
    const again = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(again.cache).toMatchObject({ state: 'revalidated', fwdStatus: 200, ttlSeconds: 60 })
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.state).toBe('hit')
    expect(f.asked()).toEqual(['HEAD latest'])
  })

  it('is fetched by digest when it has moved', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    const moved = f.registry.addImage(NAME, 'latest', { seed: 'new' })
    f.clock.now += MINUTE
    f.asked()
    const again = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(again.bytes?.equals(moved.bytes)).toBe(true)
    expect(again.cache).toMatchObject({ state: 'expired', stored: true })
    expect(f.asked()).toEqual(['HEAD latest', `GET ${moved.digest}`])
  })

  it('is not fetched when it has moved to something that is held', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    const other = f.registry.addImage(NAME, '2')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.caches.manifests.get(REPO, '2', f.requester)
    f.registry.tag(NAME, 'latest', other.digest)
    f.clock.now += MINUTE
    f.asked()
    const again = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(again.bytes?.equals(other.bytes)).toBe(true)
    expect(f.asked()).toEqual(['HEAD latest'])
  })

  it('is served as before when its new content cannot be fetched', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    const moved = f.registry.addImage(NAME, 'latest', { seed: 'new' })
    f.registry.fault({ match: { reference: moved.digest }, status: 500 })
    f.clock.now += MINUTE
    for (const each of ['head', 'get'] as const) {
      const again = await f.caches.manifests[each](REPO, 'latest', f.requester)
      expect(again).toMatchObject({ digest: image.digest, cache: { state: 'stale' } })
    }
  })

  it('that is held never waits longer than revalidateTimeout, and is updated in the background', async () => {
    await using f = await openCaches(IMPATIENT)
    const image = f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    const moved = f.registry.addImage(NAME, 'latest', { seed: 'new' })
    const stall = f.registry.fault({ match: { method: 'HEAD' }, delayMs: 300 })
    f.clock.now += MINUTE
    const again = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(again.digest).toBe(image.digest)
    expect(again.cache).toMatchObject({ state: 'stale', detail: 'revalidating', ttlSeconds: 0 })
    stall.remove()
    await until(() => f.asked().includes(`GET ${moved.digest}`))
    await until(() => f.observed.length > 0)
    const get = () => f.caches.manifests.get(REPO, 'latest', f.requester)
    await until(async () => (await get()).digest === moved.digest)
    expect(await get()).toMatchObject({ digest: moved.digest, cache: { state: 'hit' } })
  })

  it('lets only the first client wait for a dead upstream', async () => {
    await using f = await openCaches({ freshness: { revalidateTimeoutMs: 350 } })
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    f.registry.fault({ match: { kind: 'manifest' }, stall: 'headers' })
    f.clock.now += MINUTE
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    f.clock.now += 350
    const started = performance.now()
    const running = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(performance.now() - started).toBeLessThan(300)
    expect(running.cache.detail).toBe('revalidating')
    // The upstream's own time limit ends it; then the failure is remembered for a while.
    const get = () => f.caches.manifests.get(REPO, 'latest', f.requester)
    await until(async () => (await get()).cache.detail !== 'revalidating')
    f.asked()
    expect((await get()).cache).toMatchObject({ state: 'stale', detail: 'upstream-error' })
    expect(f.asked()).toEqual([])
    f.registry.clearFaults()
    f.clock.now += 5_000
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.state).toBe(
      'revalidated',
    )
  })

  it.each([
    [500, 'upstream-error'],
    [429, 'rate-limited'],
    [403, 'denied'],
    [401, 'denied'],
  ])(
    'is served when the upstream answers %i, and the reason is reported',
    async (status, detail) => {
      await using f = await openCaches()
      const image = f.registry.addImage(NAME, 'latest')
      await f.caches.manifests.get(REPO, 'latest', f.requester)
      f.registry.fault({ match: { kind: 'manifest' }, status, headers: { 'retry-after': '30' } })
      f.clock.now += 10 * MINUTE
      f.asked()
      const again = await f.caches.manifests.get(REPO, 'latest', f.requester)
      expect(again.bytes?.equals(image.bytes)).toBe(true)
      expect(again.cache).toMatchObject({ state: 'stale', detail, ttlSeconds: -540 })
      expect(f.observed).toEqual([`stale: ${detail}`])
    },
  )

  it('is not requested again before Retry-After', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    f.registry.fault({ match: { kind: 'manifest' }, status: 429, headers: { 'retry-after': '30' } })
    f.clock.now += MINUTE
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    f.asked()
    f.clock.now += 29_000
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.detail).toBe(
      'rate-limited',
    )
    expect(f.asked()).toEqual([])
    f.registry.clearFaults()
    f.clock.now += 2_000
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.state).toBe(
      'revalidated',
    )
  })

  it('is served when the upstream has removed it, unless whenGone refuses', async () => {
    await using f = await openCaches({
      freshness: { rules: [{ match: '**:strict', whenGone: 'refuse' }] },
    })
    for (const tag of ['latest', 'strict']) {
      f.registry.addImage(NAME, tag)
      await f.caches.manifests.get(REPO, tag, f.requester)
    }
    f.registry.removeRepository(NAME)
    f.clock.now += MINUTE
    const kept = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(kept.cache).toMatchObject({ state: 'stale', detail: 'upstream-gone' })
    for (const each of ['get', 'head'] as const) {
      await expect(f.caches.manifests[each](REPO, 'strict', f.requester)).rejects.toMatchObject({
        status: 404,
        code: 'MANIFEST_UNKNOWN',
      })
    }
  })

  it('is served no longer than staleIfError while the upstream fails', async () => {
    await using f = await openCaches({ freshness: { staleIfErrorMs: MINUTE } })
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.registry.stop()
    f.clock.now += 2 * MINUTE - 1
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.state).toBe('stale')
    f.clock.now += 10_000
    await expect(f.caches.manifests.get(REPO, 'latest', f.requester)).rejects.toMatchObject({
      status: 503,
    })
  })

  it('is waited for when the held one is too old to be served for a failure', async () => {
    await using f = await openCaches({ freshness: { staleIfErrorMs: MINUTE } })
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    f.registry.fault({ match: { kind: 'manifest' }, delayMs: 250 })
    f.clock.now += 2 * MINUTE
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.state).toBe(
      'revalidated',
    )
  })

  it('is answered at once within staleWhileRevalidate, and revalidated in the background', async () => {
    await using f = await openCaches({ freshness: { staleWhileRevalidateMs: MINUTE } })
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    const moved = f.registry.addImage(NAME, 'latest', { seed: 'new' })
    f.clock.now += MINUTE
    const stale = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(stale.cache).toMatchObject({ state: 'stale', detail: 'revalidating' })
    const get = () => f.caches.manifests.get(REPO, 'latest', f.requester)
    await until(async () => (await get()).digest === moved.digest)
    expect(f.asked()).toContain(`GET ${moved.digest}`)
  })

  it('counts as expired when the clock went back', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    f.clock.now -= 3_600_000
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.state).toBe(
      'revalidated',
    )
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.state).toBe('hit')
  })

  it('that is missing is remembered for negativeTtl, and no other failure is', async () => {
    await using f = await openCaches()
    const get = () => f.caches.manifests.get(REPO, 'missing', f.requester)
    await expect(get()).rejects.toMatchObject({ status: 404, code: 'MANIFEST_UNKNOWN' })
    await expect(get()).rejects.toMatchObject({ status: 404 })
    await expect(f.caches.manifests.head(REPO, 'missing', f.requester)).rejects.toMatchObject({
      status: 404,
    })
    expect(f.asked()).toEqual(['GET missing'])
    f.clock.now += 10_000
    f.registry.addImage(NAME, 'missing')
    expect((await get()).cache.state).toBe('miss')
    f.registry.fault({ match: { reference: 'denied' }, status: 403 })
    f.asked()
    for (let i = 0; i < 2; i++) {
      await expect(f.caches.manifests.get(REPO, 'denied', f.requester)).rejects.toMatchObject({
        status: 403,
      })
    }
    expect(f.asked()).toEqual(['GET denied', 'GET denied'])
  })

  it.each([
    ['.INVALID_MANIFEST_NAME', 404, 'MANIFEST_UNKNOWN'],
    ['a/b', 404, 'MANIFEST_UNKNOWN'],
    ['sha256:totallywrong', 400, 'DIGEST_INVALID'],
    [`sha256:${'A'.repeat(64)}`, 400, 'DIGEST_INVALID'],
  ])('that is not a valid tag (%s) is refused without asking', async (reference, status, code) => {
    await using f = await openCaches()
    for (const each of ['get', 'head'] as const) {
      await expect(f.caches.manifests[each](REPO, reference, f.requester)).rejects.toMatchObject({
        status,
        code,
      })
    }
    expect(f.asked()).toEqual([])
  })

  it('survives a restart, with the upstream gone', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.restart()
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.state).toBe('hit')
    await f.registry.stop()
    await f.restart()
    f.clock.now += MINUTE
    const again = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(again.bytes?.equals(image.bytes)).toBe(true)
    expect(again.cache).toMatchObject({ state: 'stale', detail: 'upstream-error' })
  })

  it('of schema 1 is passed through and not kept', async () => {
    await using f = await openCaches()
    const mediaType = 'application/vnd.docker.distribution.manifest.v1+prettyjws'
    const document = {
      schemaVersion: 1,
      name: NAME,
      tag: 'old',
      fsLayers: [],
      history: [],
      signatures: [],
    }
    const { digest } = f.registry.addManifest(NAME, document, { mediaType, tag: 'old' })
    for (let i = 0; i < 2; i++) {
      const served = await f.caches.manifests.get(REPO, 'old', f.requester)
      expect(served).toMatchObject({ digest, mediaType, cache: { state: 'bypass' } })
      expect(served.bytes?.length).toBe(served.size)
    }
    await f.caches.drain()
    expect(await f.store.manifests.get(digest)).toBeUndefined()
    expect(await f.store.tags.list(REPO)).toEqual([])
  })

  it('answers thousands of hits in the time of a few upstream requests', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    const started = performance.now()
    for (let i = 0; i < 20_000; i++) await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(performance.now() - started).toBeLessThan(2_000)
    expect(f.asked()).toEqual(['GET latest'])
  })
})

describe('an error that no upstream explains', () => {
  it('is reported and leaves a held tag served, also where nobody waits for the upstream', async () => {
    let fault: Error | undefined
    await using f = await openCaches({ fault: () => fault })
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    fault = new TypeError('a bug')
    f.clock.now += 10 * MINUTE
    const held = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(held.cache).toMatchObject({ state: 'stale', detail: 'internal-error' })
    expect(f.observed).toContain('unexpected: revalidate tag: TypeError: a bug')
    expect(f.failures).toEqual([])
  })

  it('is the answer for what is not held: 500, or 503 where something ran out', async () => {
    const faults = [new TypeError('a bug'), Object.assign(new Error('x'), { code: 'EMFILE' })]
    await using f = await openCaches({ fault: () => faults[0] })
    for (const status of [500, 503]) {
      const pull = f.caches.manifests.get(REPO, 'latest', f.requester)
      await expect(pull).rejects.toMatchObject({ status, cause: faults[0] })
      faults.shift()
    }
    expect(f.observed).toEqual([
      'unexpected: get manifest: TypeError: a bug',
      'unexpected: get manifest: Error: x',
    ])
  })
})
