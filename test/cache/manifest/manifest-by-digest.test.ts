import { describe, expect, it } from 'vitest'
import { digestOf } from '../../../src/oci/digest.ts'
import { MemoryDriver } from '../../../src/store/driver/memory.ts'
import { NAME, openCaches, REPO } from '../manifest-caches-fixture.ts'

const OTHER = { ...REPO, name: 'team/other' }
const ELSEWHERE = { registry: 'elsewhere.test', name: 'team/other' }

/** A disk on which nothing can be written. */
class ReadOnlyDriver extends MemoryDriver {
  writable = true

  override put(...args: Parameters<MemoryDriver['put']>): Promise<string> {
    return this.writable ? super.put(...args) : Promise.reject(new Error('EROFS'))
  }
}

describe('a manifest by digest', () => {
  it('is fetched once by any number of clients, and is a hit for ever', async () => {
    await using f = await openCaches()
    const { digest, bytes, mediaType } = f.registry.addImage(NAME, 'latest')
    const get = () => f.caches.manifests.get(REPO, digest, f.requester)
    const all = await Promise.all(Array.from({ length: 20 }, get))
    expect(all.every((served) => served.bytes?.equals(bytes))).toBe(true)
    f.clock.now += 1e12
    expect(await get()).toEqual({
      digest,
      mediaType,
      size: bytes.length,
      bytes,
      cache: { state: 'hit', ageSeconds: 1e9 },
    })
    expect((await f.caches.manifests.head(REPO, digest, f.requester)).cache.state).toBe('hit')
    expect(f.asked()).toEqual([`GET ${digest}`])
  })

  it('is a hit after its tag was fetched, also after a restart without the upstream', async () => {
    await using f = await openCaches()
    const { digest, bytes, mediaType } = f.registry.addImage(NAME, 'latest', { type: 'docker' })
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect((await f.caches.manifests.get(REPO, digest, f.requester)).cache.state).toBe('hit')
    await f.restart()
    await f.registry.stop()
    const again = await f.caches.manifests.get(REPO, digest, f.requester)
    const cache = { state: 'hit', ageSeconds: 0 }
    expect(again).toEqual({ digest, mediaType, size: bytes.length, bytes, cache })
  })

  it('that an index of the repository names needs no upstream request when it is held', async () => {
    await using f = await openCaches()
    const index = f.registry.addImage(NAME, 'latest', { multiArch: true })
    const child = index.images[0]?.manifest.descriptor.digest ?? ''
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.caches.manifests.get(REPO, child, f.requester)
    f.asked()
    expect((await f.caches.manifests.get(REPO, child, f.requester)).cache.state).toBe('hit')
    expect(f.asked()).toEqual([])
  })

  it('costs one upstream HEAD when it is not held and only its head is wanted', async () => {
    await using f = await openCaches()
    const { digest, bytes } = f.registry.addImage(NAME, 'latest')
    const head = await f.caches.manifests.head(REPO, digest, f.requester)
    expect(head).toMatchObject({ digest, size: bytes.length, cache: { state: 'miss' } })
    expect(f.asked()).toEqual([`HEAD ${digest}`])
  })

  it('works with sha512', async () => {
    await using f = await openCaches()
    const document = { schemaVersion: 2, layers: [], config: {}, annotations: { a: 'b' } }
    const { digest } = f.registry.addManifest(NAME, document, { algorithm: 'sha512' })
    expect(digest).toMatch(/^sha512:/)
    await f.caches.manifests.get(REPO, digest, f.requester)
    await f.restart()
    const again = await f.caches.manifests.get(REPO, digest, f.requester)
    expect(again.cache.state).toBe('hit')
    expect(digestOf(again.bytes ?? Buffer.alloc(0), 'sha512')).toBe(digest)
  })

  it('is not held when it came wrong, and is right the next time', async () => {
    await using f = await openCaches()
    const { digest, bytes } = f.registry.addImage(NAME, 'latest')
    f.registry.fault({ match: { method: 'GET' }, corruptAt: 40, times: 1 })
    await expect(f.caches.manifests.get(REPO, digest, f.requester)).rejects.toMatchObject({
      status: 502,
    })
    expect(f.failures.map(({ kind }) => kind)).toEqual(['corrupt'])
    const again = await f.caches.manifests.get(REPO, digest, f.requester)
    expect(again.cache.state).toBe('miss')
    expect(again.bytes?.equals(bytes)).toBe(true)
  })

  it('is fetched again when its file was damaged', async () => {
    await using f = await openCaches()
    const { digest, bytes } = f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.restart()
    const key = `manifests/sha256/${digest.slice(7, 9)}/${digest.slice(7)}`
    await f.store.driver.put(key, Buffer.from('{"schemaVersion":2}'))
    f.asked()
    const again = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(again.bytes?.equals(bytes)).toBe(true)
    expect(again.cache.state).toBe('miss')
    expect(f.asked()).toEqual([`GET ${digest}`])
  })

  it('that is missing is remembered as missing for a short while', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    const digest = digestOf(Buffer.from('nowhere'))
    for (const each of ['get', 'head'] as const) {
      await expect(f.caches.manifests[each](REPO, digest, f.requester)).rejects.toMatchObject({
        status: 404,
      })
    }
    expect(f.asked()).toEqual([`GET ${digest}`])
  })
})

describe('access to a held manifest', () => {
  it('from another repository is granted after one HEAD', async () => {
    await using f = await openCaches()
    const { digest, bytes } = f.registry.addImage(NAME, 'latest')
    f.registry.addImage(OTHER.name, 'latest', { seed: `${NAME}:latest` })
    f.registry.addManifest(OTHER.name, bytes)
    await f.caches.manifests.get(REPO, digest, f.requester)
    f.asked()
    const first = await f.caches.manifests.get(OTHER, digest, f.requester)
    expect(first.bytes?.equals(bytes)).toBe(true)
    expect(first.cache).toMatchObject({ state: 'revalidated', fwdStatus: 200 })
    expect((await f.caches.manifests.get(OTHER, digest, f.requester)).cache.state).toBe('hit')
    expect(f.asked()).toEqual([`HEAD ${digest}`])
  })

  it('from a repository that does not have it leads to what the upstream says', async () => {
    await using f = await openCaches()
    const { digest } = f.registry.addImage(NAME, 'latest')
    f.registry.addImage(OTHER.name, 'latest')
    await f.caches.manifests.get(REPO, digest, f.requester)
    const get = () => f.caches.manifests.get(OTHER, digest, f.requester)
    await expect(get()).rejects.toMatchObject({ status: 404, code: 'MANIFEST_UNKNOWN' })
    f.registry.fault({ match: { kind: 'manifest' }, status: 403 })
    await expect(get()).rejects.toMatchObject({ status: 403, code: 'DENIED' })
    f.registry.clearFaults()
    f.registry.fault({ match: { kind: 'manifest' }, status: 500 })
    await expect(get()).rejects.toMatchObject({ status: 503 })
    await f.registry.stop()
    await expect(get()).rejects.toMatchObject({ status: 503 })
  })

  it('by a tag that moved to what another repository brought needs only its HEAD', async () => {
    await using f = await openCaches()
    const { bytes } = f.registry.addImage(OTHER.name, 'latest')
    f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.caches.manifests.get(OTHER, 'latest', f.requester)
    f.registry.addManifest(NAME, bytes, { tag: 'latest' })
    f.clock.now += 60_000
    f.asked()
    const moved = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(moved.bytes?.equals(bytes)).toBe(true)
    expect((await f.caches.manifests.get(REPO, moved.digest, f.requester)).cache.state).toBe('hit')
    expect(f.asked()).toEqual(['HEAD latest'])
  })
})

describe('what a manifest grants', () => {
  it('is access to its blobs and children in its repository, with their sizes, and nothing else', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    for (const { digest, size, mediaType } of image.blobs) {
      expect(await f.caches.access.named(REPO, 'blob', digest)).toMatchObject({
        kind: 'blob',
        size,
        mediaType,
        grantedBy: 'anonymous',
      })
      expect(await f.caches.access.named(OTHER, 'blob', digest)).toBeUndefined()
      expect(await f.caches.access.named(REPO, 'manifest', digest)).toBeUndefined()
    }
  })

  it('does not include content that came from another registry', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    const [blob] = image.blobs
    if (!blob) throw new Error('no blob')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    // Held, but fetched from elsewhere: the manifest's word is not enough.
    const link = { kind: 'blob', grantedBy: 'anonymous', at: 1 } as const
    f.caches.grants.recordFetched(ELSEWHERE, blob.digest, link)
    expect(await f.caches.access.find(REPO, 'blob', blob.digest)).toBeUndefined()
    expect(await f.caches.access.find(ELSEWHERE, 'blob', blob.digest)).toBeDefined()
    expect(
      await f.caches.access.find({ ...ELSEWHERE, name: 'x' }, 'blob', blob.digest),
    ).toBeUndefined()
    // One repository of the registry itself brought it: then it is.
    f.caches.grants.recordFetched(OTHER, blob.digest, link)
    expect(await f.caches.access.find(REPO, 'blob', blob.digest)).toMatchObject({ size: blob.size })
    expect(f.caches.access.peek(REPO, 'blob', blob.digest)).toBeDefined()
  })

  it('does not include a blob that it does not name, which takes one HEAD for all who ask', async () => {
    await using f = await openCaches()
    f.registry.addImage(NAME, 'latest')
    const blob = f.registry.addBlob(Buffer.from('a blob'), { repository: NAME })
    const prove = () => f.caches.access.prove(REPO, 'blob', blob.digest, f.requester)
    const [one, two] = await Promise.all([prove(), prove()])
    expect(one).toMatchObject({ kind: 'blob', size: 6, grantedBy: 'anonymous' })
    expect(two).toBe(one)
    expect(f.registry.requestsFor(blob.digest).map(({ method }) => method)).toEqual(['HEAD'])
    await f.restart()
    const link = await f.caches.access.find(REPO, 'blob', blob.digest)
    expect(link).toMatchObject({ kind: 'blob', grantedBy: 'anonymous' })
    // A header's word, unlike a manifest's: true for one answer, not for good.
    expect(link?.size).toBeUndefined()
    await expect(
      f.caches.access.prove(OTHER, 'blob', blob.digest, f.requester),
    ).rejects.toMatchObject({
      status: 404,
      code: 'BLOB_UNKNOWN',
    })
  })

  it('does not include its subject', async () => {
    await using f = await openCaches()
    const image = f.registry.addImage(NAME, 'latest')
    const subject = { mediaType: image.mediaType, digest: image.digest, size: image.bytes.length }
    const referrer = f.registry.addReferrer(NAME, subject)
    await f.caches.manifests.get(REPO, referrer.digest, f.requester)
    expect(await f.caches.access.named(REPO, 'manifest', image.digest)).toBeUndefined()
  })

  it('is restored when its link was lost, as soon as the manifest is served', async () => {
    const driver = new MemoryDriver()
    await using f = await openCaches({ driver })
    const image = f.registry.addImage(NAME, 'latest')
    await f.caches.manifests.get(REPO, 'latest', f.requester)
    await f.caches.drain()
    const lost: string[] = []
    for await (const { key } of driver.walk('repositories/')) {
      if (key.includes(`/${NAME}/_blobs/`)) lost.push(key)
    }
    expect(lost).toHaveLength(image.blobs.length)
    for (const key of lost) await driver.remove(key)
    await f.restart()
    await f.caches.manifests.get(REPO, image.digest, f.requester)
    for (const { digest } of image.blobs) {
      expect(await f.caches.access.named(REPO, 'blob', digest)).toBeDefined()
    }
  })
})

describe('a store that cannot be written', () => {
  it('costs no response: manifests and grants are served from memory, and it is reported', async () => {
    const driver = new ReadOnlyDriver()
    await using f = await openCaches({ driver })
    driver.writable = false
    const image = f.registry.addImage(NAME, 'latest')
    const first = await f.caches.manifests.get(REPO, 'latest', f.requester)
    expect(first.bytes?.equals(image.bytes)).toBe(true)
    await f.caches.drain()
    expect(f.observed).toContain('store: write manifest')
    expect(f.observed).toContain('store: write link')
    expect(f.observed).toContain('store: write tag')
    await f.registry.stop()
    expect((await f.caches.manifests.get(REPO, 'latest', f.requester)).cache.state).toBe('hit')
    expect((await f.caches.manifests.get(REPO, image.digest, f.requester)).cache.state).toBe('hit')
    expect(
      await f.caches.access.named(REPO, 'blob', image.blobs[0]?.digest ?? image.digest),
    ).toBeDefined()
  })
})
