import { describe, expect, it } from 'vitest'
import { digestOf } from '../../../src/oci/digest.ts'
import { referrersTag } from '../../../src/oci/reference.ts'
import {
  IMPATIENT,
  NAME,
  openCaches,
  REPO,
  type CachesFixture,
} from '../manifest-caches-fixture.ts'

const MINUTE = 60_000

function addSigned(f: CachesFixture) {
  const image = f.registry.addImage(NAME, 'latest')
  const subject = { mediaType: image.mediaType, digest: image.digest, size: image.bytes.length }
  const signature = f.registry.addReferrer(NAME, subject, { artifactType: 'application/sig' })
  return { image, subject, signature }
}

describe('TagLister', () => {
  it('gives what the upstream says, page by page', async () => {
    await using f = await openCaches({ registry: { pageSize: 2 } })
    for (const tag of ['a', 'b', 'c']) f.registry.addImage(NAME, tag)
    const first = await f.caches.tags.list(REPO, 'n=2', f.requester)
    expect(first).toMatchObject({ tags: ['a', 'b'], cache: { state: 'miss' } })
    expect(first.next).toBeDefined()
    const rest = await f.caches.tags.list(REPO, first.next ?? '', f.requester)
    expect(rest.tags).toEqual(['c'])
    expect(rest.next).toBeUndefined()
  })

  it('never tells the upstream of ns, and keeps its own parameters as they are', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'a')
    await f.caches.tags.list(REPO, 'ns=docker.io&cursor=a%2Fb&n=5', f.requester)
    expect(f.registry.requests.at(-1)?.url).toBe(`/v2/${NAME}/tags/list?cursor=a%2Fb&n=5`)
  })

  it('asks once for all who want the same page at once', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'a')
    f.registry.fault({ match: { kind: 'tags' }, delayMs: 20 })
    const all = await Promise.all(
      Array.from({ length: 5 }, () => f.caches.tags.list(REPO, '', f.requester)),
    )
    expect(all.filter(({ cache }) => cache.state === 'collapsed')).toHaveLength(4)
    expect(f.registry.requests).toHaveLength(1)
  })

  it('answers n=0 with nothing and refuses what is not a number, without asking', async () => {
    await using f = await openCaches()
    expect((await f.caches.tags.list(REPO, 'n=0', f.requester)).tags).toEqual([])
    await expect(f.caches.tags.list(REPO, 'n=-1', f.requester)).rejects.toMatchObject({
      status: 400,
      code: 'PAGINATION_NUMBER_INVALID',
    })
    expect(f.registry.requests).toEqual([])
  })

  it('lists what is held while the upstream is down, with n and last', async () => {
    await using f = await openCaches()
    for (const tag of ['c', 'a', 'b']) {
      f.registry.addImage(NAME, tag)
      await f.caches.manifests.get(REPO, tag, f.requester)
    }
    await f.caches.drain()
    await f.registry.stop()
    const page = await f.caches.tags.list(REPO, 'n=2', f.requester)
    expect(page).toEqual({
      tags: ['a', 'b'],
      next: 'n=2&last=b',
      cache: { state: 'stale', detail: 'upstream-error', ageSeconds: 0 },
    })
    expect((await f.caches.tags.list(REPO, page.next ?? '', f.requester)).tags).toEqual(['c'])
  })

  it('lists what is held when the upstream takes long, and waits when nothing is', async () => {
    await using f = await openCaches(IMPATIENT)
    f.registry.addImage(NAME, 'a')
    f.registry.fault({ match: { kind: 'tags' }, delayMs: 300 })
    const cold = await f.caches.tags.list(REPO, '', f.requester)
    expect(cold).toMatchObject({ tags: ['a'], cache: { state: 'miss' } })
    await f.caches.manifests.get(REPO, 'a', f.requester)
    await f.caches.drain()
    f.registry.addImage(NAME, 'b')
    const held = await f.caches.tags.list(REPO, '', f.requester)
    expect(held).toMatchObject({ tags: ['a'], cache: { state: 'stale', detail: 'revalidating' } })
    expect(f.observed).toEqual(['stale: revalidating'])
  })

  it('leaves an upstream alone for 5 s that failed while tags are held', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'a')
    await f.caches.manifests.get(REPO, 'a', f.requester)
    await f.caches.drain()
    f.registry.fault({ match: { kind: 'tags' }, status: 500 })
    const asked = () => f.registry.requests.filter(({ kind }) => kind === 'tags').length
    for (let i = 0; i < 3; i++) {
      const { cache } = await f.caches.tags.list(REPO, '', f.requester)
      expect(cache).toMatchObject({ state: 'stale', detail: 'upstream-error' })
    }
    expect(asked()).toBe(1)
    f.registry.clearFaults()
    f.clock.now += 5_000
    expect((await f.caches.tags.list(REPO, '', f.requester)).cache.state).toBe('miss')
  })

  it('refuses what is held when the upstream has removed it and whenGone says so', async () => {
    for (const whenGone of ['serve', 'refuse'] as const) {
      await using f = await openCaches({ freshness: { whenGone } })
      f.registry.addImage(NAME, 'a')
      await f.caches.manifests.get(REPO, 'a', f.requester)
      await f.caches.drain()
      f.registry.removeRepository(NAME)
      const list = f.caches.tags.list(REPO, '', f.requester)
      if (whenGone === 'serve') {
        expect(await list).toMatchObject({ tags: ['a'], cache: { detail: 'upstream-gone' } })
      } else {
        await expect(list).rejects.toMatchObject({ status: 404, code: 'NAME_UNKNOWN' })
      }
    }
  })

  it.each(['last', 'cursor'])(
    'fills up pages that the upstream cuts short (%s)',
    async (cursor) => {
      await using f = await openCaches({ registry: { pageSize: 2, cursor } })
      for (const tag of ['a', 'b', 'c', 'd', 'e', 'f', 'g']) f.registry.addImage(NAME, tag)
      const first = await f.caches.tags.list(REPO, 'n=5', f.requester)
      expect(first.tags).toEqual(['a', 'b', 'c', 'd', 'e'])
      expect(first.next).toMatch(/^n=5&/)
      const rest = await f.caches.tags.list(REPO, first.next ?? '', f.requester)
      expect(rest).toEqual({ tags: ['f', 'g'], cache: { state: 'miss', fwdStatus: 200 } })
      expect((await f.caches.tags.list(REPO, '', f.requester)).tags).toEqual(['a', 'b'])
    },
  )

  it('gives a short page when the next one fails', async () => {
    await using f = await openCaches({ registry: { pageSize: 2 } })
    for (const tag of ['a', 'b', 'c']) f.registry.addImage(NAME, tag)
    f.registry.fault({ match: { kind: 'tags', nth: 2 }, status: 500 })
    const first = await f.caches.tags.list(REPO, 'n=3', f.requester)
    expect(first).toMatchObject({ tags: ['a', 'b'], next: 'n=3&last=b' })
    const rest = await f.caches.tags.list(REPO, first.next ?? '', f.requester)
    expect(rest.tags).toEqual(['c'])
  })

  it('reports what is wrong when nothing is held either', async () => {
    await using f = await openCaches()
    await expect(f.caches.tags.list(REPO, '', f.requester)).rejects.toMatchObject({
      status: 404,
      code: 'NAME_UNKNOWN',
    })
    await f.registry.stop()
    await expect(f.caches.tags.list(REPO, '', f.requester)).rejects.toMatchObject({ status: 503 })
  })
})

describe('ReferrersCache', () => {
  it('gives all that the upstream lists, and asks again only after a while', async () => {
    await using f = await openCaches()
    const { image, subject, signature } = addSigned(f)
    const list = () => f.caches.referrers.list(REPO, image.digest, f.requester)
    const first = await list()
    expect(first.manifests).toMatchObject([
      { digest: signature.digest, artifactType: 'application/sig' },
    ])
    expect(first.cache).toMatchObject({ state: 'miss', stored: true })
    expect((await list()).cache).toEqual({ state: 'hit', ttlSeconds: 10, ageSeconds: 0 })
    const second = f.registry.addReferrer(NAME, subject, { artifactType: 'application/sbom' })
    f.clock.now += 10_000
    const later = await list()
    expect(later.cache.state).toBe('expired')
    expect(later.manifests.map(({ digest }) => digest)).toContain(second.digest)
    expect(f.registry.requests.filter(({ kind }) => kind === 'referrers')).toHaveLength(2)
  })

  it('uses the fallback tag where the upstream has no such API', async () => {
    await using f = await openCaches({ registry: { referrers: 'none' } })
    const { image, signature } = addSigned(f)
    const mediaType = 'application/vnd.oci.image.index.v1+json'
    const manifests = [{ ...signature, artifactType: 'application/sig', annotations: { a: 'b' } }]
    const tag = referrersTag(image.digest)
    f.registry.addManifest(NAME, { schemaVersion: 2, mediaType, manifests }, { mediaType, tag })
    const list = await f.caches.referrers.list(REPO, image.digest, f.requester)
    expect(list.manifests).toEqual(manifests)
  })

  it('is empty where there is neither API nor fallback tag, or the tag is not an index', async () => {
    await using f = await openCaches({ registry: { referrers: 'none' } })
    const image = f.registry.addImage(NAME, 'latest')
    const none = await f.caches.referrers.list(REPO, image.digest, f.requester)
    expect(none.manifests).toEqual([])
    const other = f.registry.addImage(NAME, 'other')
    f.registry.tag(NAME, referrersTag(other.digest), image.digest)
    expect((await f.caches.referrers.list(REPO, other.digest, f.requester)).manifests).toEqual([])
  })

  it('serves what it holds when the upstream has lost it, unless whenGone refuses', async () => {
    for (const whenGone of ['serve', 'refuse'] as const) {
      await using f = await openCaches({ freshness: { ttlMs: 0, negativeTtlMs: 0, whenGone } })
      const { image, signature } = addSigned(f)
      await f.caches.referrers.list(REPO, image.digest, f.requester)
      f.registry.fault({ status: 404 })
      const { manifests, cache } = await f.caches.referrers.list(REPO, image.digest, f.requester)
      const held = whenGone === 'serve' ? [signature.digest] : []
      expect(manifests.map(({ digest }) => digest)).toEqual(held)
      expect(cache.detail).toBe(whenGone === 'serve' ? 'upstream-gone' : undefined)
    }
  })

  it.each(['api', 'none'] as const)(
    'serves what it holds when the upstream is down (%s)',
    async (api) => {
      await using f = await openCaches({ registry: { referrers: api } })
      const { image, signature } = addSigned(f)
      const mediaType = 'application/vnd.oci.image.index.v1+json'
      const document = { schemaVersion: 2, mediaType, manifests: [signature] }
      f.registry.addManifest(NAME, document, { mediaType, tag: referrersTag(image.digest) })
      await f.caches.referrers.list(REPO, image.digest, f.requester)
      await f.restart()
      await f.registry.stop()
      f.clock.now += MINUTE
      const held = await f.caches.referrers.list(REPO, image.digest, f.requester)
      expect(held.manifests.map(({ digest }) => digest)).toEqual([signature.digest])
      expect(held.cache).toMatchObject({ state: 'stale', detail: 'upstream-error' })
      const asked = f.registry.requests.length
      await f.caches.referrers.list(REPO, image.digest, f.requester)
      expect(f.registry.requests).toHaveLength(asked)
    },
  )

  it('fails when the upstream is down and nothing is known', async () => {
    await using f = await openCaches()
    const { image } = addSigned(f)
    await f.registry.stop()
    await expect(f.caches.referrers.list(REPO, image.digest, f.requester)).rejects.toMatchObject({
      status: 503,
    })
  })

  it('serves what it holds when the upstream is slow', async () => {
    await using f = await openCaches(IMPATIENT)
    const { image, signature } = addSigned(f)
    await f.caches.referrers.list(REPO, image.digest, f.requester)
    f.registry.fault({ match: { kind: 'referrers' }, delayMs: 300 })
    f.clock.now += MINUTE
    const held = await f.caches.referrers.list(REPO, image.digest, f.requester)
    expect(held.manifests.map(({ digest }) => digest)).toEqual([signature.digest])
    expect(held.cache).toMatchObject({ state: 'stale', detail: 'revalidating' })
  })

  it('serves what it holds at once within staleWhileRevalidate, and asks in the background', async () => {
    await using f = await openCaches({ freshness: { staleWhileRevalidateMs: MINUTE } })
    const { image, subject } = addSigned(f)
    const list = () => f.caches.referrers.list(REPO, image.digest, f.requester)
    await list()
    const second = f.registry.addReferrer(NAME, subject, { artifactType: 'application/sbom' })
    f.clock.now += 10_000
    expect((await list()).cache).toMatchObject({ state: 'stale', detail: 'revalidating' })
    const digests = async () => (await list()).manifests.map(({ digest }) => digest)
    await expect.poll(digests).toContain(second.digest)
  })

  it('keeps a file for a digest that is held, and none for any other that is asked about', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    const stranger = digestOf(Buffer.from('anything'))
    await f.caches.referrers.list(REPO, stranger, f.requester)
    await f.caches.referrers.list(REPO, image.digest, f.requester)
    await f.caches.drain()
    expect(await f.store.referrers.get(REPO, stranger)).toBeUndefined()
    expect(await f.store.referrers.get(REPO, image.digest)).toMatchObject({ manifests: [] })
  })

  it('does not grant what it lists', async () => {
    await using f = await openCaches()
    const { image, signature } = addSigned(f)
    await f.caches.referrers.list(REPO, image.digest, f.requester)
    expect(await f.caches.access.named(REPO, 'manifest', signature.digest)).toBeUndefined()
  })
})

describe('Catalog', () => {
  it('lists what is held, sorted, of one registry or of all', async () => {
    await using f = await openCaches()
    for (const name of ['b/two', 'a/one']) {
      f.registry.addImage(name, 'latest')
      await f.caches.manifests.get({ ...REPO, name }, 'latest', f.requester)
    }
    await f.caches.drain()
    expect(await f.caches.catalog.repositories(REPO.registry)).toEqual(['a/one', 'b/two'])
    expect(await f.caches.catalog.repositories(undefined)).toEqual([
      `${REPO.registry}/a/one`,
      `${REPO.registry}/b/two`,
    ])
    expect(await f.caches.catalog.repositories('other.test')).toEqual([])
  })

  it('walks the store at most every five seconds', async () => {
    await using f = await openCaches()
    expect(await f.caches.catalog.repositories(undefined)).toEqual([])
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.caches.drain()
    expect(await f.caches.catalog.repositories(undefined)).toEqual([])
    f.clock.now += 5_000
    expect(await f.caches.catalog.repositories(REPO.registry)).toEqual([NAME])
  })
})
