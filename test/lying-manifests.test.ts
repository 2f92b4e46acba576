// Manifests that lie about the size of a blob. Whoever may push one to a repository can name any digest
// with any size: that must cost nobody else their blob.
import { readFile, stat } from 'node:fs/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import { Blobs } from '../src/store/blobs/blobs.ts'
import { filesBelow } from './support/cache-files.ts'
import { mirrorOf } from './support/chandlery.ts'
import { type OpenOptions, REGISTRY } from './support/client.ts'
import { bytesContent, syntheticBytes } from './support/content.ts'
import type { ActiveFault } from './support/faults.ts'
import type { TestRegistry } from './support/registry.ts'
import { createWorld, type World } from './support/world.ts'

const MIB = 1024 * 1024
const OTHER_REGISTRY = 'other.test'
const BYTES = syntheticBytes('honest', 0, 2 * MIB)
const DIGEST = digestOf(BYTES)

/** Two registries of their own names, the first of which has BYTES; its manifest was pulled. */
async function createLyingWorld(): Promise<World> {
  const world = await createWorld({
    upstreams: [{}, {}],
    config: ([first, second]) => ({
      mirrors: {
        ...mirrorOf(REGISTRY, first!.url).mirrors,
        ...mirrorOf(OTHER_REGISTRY, second!.url).mirrors,
      },
    }),
  })
  world.upstream.addImage('team/app', 'v1', { layers: [BYTES] })
  expect((await world.client.manifest('v1')).status).toBe(200)
  return world
}

interface Claimed {
  readonly repository: string
  readonly size: number
  /** Default: the first. */
  readonly on?: TestRegistry
}

/** Has the cache see a manifest that claims this size of the blob. */
async function claim({ client, upstream }: World, { repository, size, on = upstream }: Claimed) {
  const blob = { mediaType: 'application/octet-stream', digest: DIGEST, size }
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  on.addManifest(
    repository,
    { schemaVersion: 2, mediaType, config: blob, layers: [] },
    { tag: 'lie' },
  )
  const registry = on === upstream ? REGISTRY : OTHER_REGISTRY
  expect((await client.manifest('lie', { repository, registry })).status).toBe(200)
}

async function expectGood(
  { client }: World,
  options: OpenOptions = {},
  bytes = BYTES,
): Promise<void> {
  using response = await client.openBlob(DIGEST, options)
  const { complete, bytes: given } = await response.body()
  expect([complete, given.equals(bytes)]).toEqual([true, true])
  expect(response.headers.get('content-length')).toBe(String(bytes.length))
}

function below(world: World, part: 'blobs' | 'ingest' | 'quarantine'): Promise<string[]> {
  return filesBelow(world.cache(part))
}

/** Has the blob held; what it gives verifies that it still is, by the same file. */
async function hold(world: World): Promise<() => Promise<void>> {
  await expectGood(world)
  await expect.poll(() => below(world, 'blobs')).toHaveLength(1)
  const [file = ''] = await below(world, 'blobs')
  const { ino } = await stat(file)
  return async () => {
    expect((await stat(file)).ino).toBe(ino)
    expect((await readFile(file)).equals(BYTES)).toBe(true)
    expect(await below(world, 'quarantine')).toEqual([])
  }
}

afterEach(() => void vi.restoreAllMocks())

describe('a held blob', () => {
  test.each([
    ['more', BYTES.length + 1],
    ['fewer', 7],
    ['no', 0],
  ])('is kept, and is served as it is to a client that expects %s bytes', async (_what, size) => {
    await using world = await createLyingWorld()
    const expectStillHeld = await hold(world)
    await claim(world, { repository: 'lying/app', size })
    const { upstream, client } = world
    const asked = upstream.requestsFor(DIGEST).length
    await expectGood(world, { repository: 'lying/app' })
    const part = { repository: 'lying/app', headers: { range: 'bytes=100-' } }
    await expectGood(world, part, BYTES.subarray(100))
    const head = await client.blob(DIGEST, { repository: 'lying/app', method: 'HEAD' })
    expect(head.headers.get('content-length')).toBe(String(BYTES.length))
    expect(upstream.requestsFor(DIGEST).length).toBe(asked)
    await expectStillHeld()
  })

  test('is hashed once for twenty manifests that each claim another size', async () => {
    await using world = await createLyingWorld()
    const expectStillHeld = await hold(world)
    const verify = vi.spyOn(Blobs.prototype, 'verify')
    const names = Array.from({ length: 20 }, (_, index) => `lying/app-${index}`)
    const sizes = names.map((_, index) => BYTES.length + 1 + index)
    await Promise.all(
      names.map((repository, index) => claim(world, { repository, size: sizes[index]! })),
    )
    for (const repository of names) await expectGood(world, { repository })
    expect(verify.mock.calls.length).toBe(1)
    await expectStillHeld()
  })

  test('is neither hashed nor touched for a client that may not read it', async () => {
    await using world = await createLyingWorld()
    const expectStillHeld = await hold(world)
    const verify = vi.spyOn(Blobs.prototype, 'verify')
    await claim(world, { repository: 'lying/app', size: 7, on: world.other })
    const elsewhere = { repository: 'lying/app', registry: OTHER_REGISTRY }
    expect((await world.client.blob(DIGEST, elsewhere)).status).toBe(404)
    expect(verify).not.toHaveBeenCalled()
    await expectStillHeld()
  })
})

/** The sizes that a lying manifest claims for a blob of 2 MiB. */
const LIES = [0, 7, BYTES.length - 1, BYTES.length + 1, 10 * BYTES.length, 2 ** 50]
const LYING = { repository: 'lying/app' }
const PART = { start: 1_500_000, end: 1_600_000 }

/** A world in which lying/app has the blob as well, and a manifest that claims this size of it. */
async function createWorldWithClaim(size: number): Promise<World> {
  const world = await createLyingWorld()
  await claim(world, { ...LYING, size })
  world.upstream.content.addBlob(DIGEST, bytesContent(BYTES), LYING.repository)
  return world
}

/** The first answer stalls in the middle: until it is released, nobody can have all of the blob. */
function stallFirst({ upstream }: World): ActiveFault {
  const match = { kind: 'blob', method: 'GET', nth: 1 } as const
  return upstream.fault({ match, stall: { afterBytes: MIB } })
}

function ranged(options: OpenOptions, range: string): OpenOptions {
  return { ...options, headers: { range: `bytes=${range}` } }
}

async function expectGoodPart(world: World, options: OpenOptions = {}): Promise<void> {
  const { start, end } = PART
  await expectGood(world, ranged(options, `${start}-${end - 1}`), BYTES.subarray(start, end))
}

async function readToEnd({ client }: World, options: OpenOptions): Promise<void> {
  using response = await client.openBlob(DIGEST, options)
  await response.body()
}

/** Resolves once this many clients read what arrives. */
async function joined({ client }: World, clients: number): Promise<void> {
  await expect.poll(() => client.metric('chandlery_download_readers')).toBe(clients)
}

async function sending({ upstream }: World): Promise<void> {
  await expect.poll(() => upstream.bytesSent(DIGEST)).toBeGreaterThan(0)
}

async function expectKept(world: World): Promise<void> {
  await expect.poll(() => below(world, 'blobs')).toHaveLength(1)
  await expect.poll(() => below(world, 'ingest')).toEqual([])
}

describe('a blob that arrives', () => {
  test.each(LIES)(
    'reaches a client whose manifest claims %s bytes, and those that join it',
    async (size) => {
      await using world = await createWorldWithClaim(size)
      const stalled = stallFirst(world)
      const lying = expectGood(world, LYING)
      await sending(world)
      const honest = expectGood(world)
      const part = expectGoodPart(world)
      await joined(world, 3)
      stalled.release()
      await Promise.all([honest, part, lying])
      await expectKept(world)
    },
  )

  test.each(LIES)(
    'reaches a client that joins and whose manifest claims %s bytes',
    async (size) => {
      await using world = await createWorldWithClaim(size)
      const stalled = stallFirst(world)
      const honest = expectGood(world)
      await sending(world)
      const lying = expectGood(world, LYING)
      const head = await world.client.blob(DIGEST, { ...LYING, method: 'HEAD' })
      expect(head.headers.get('content-length')).toBe(String(BYTES.length))
      stalled.release()
      await Promise.all([honest, lying])
      await expectKept(world)
      expect(world.upstream.bytesSent(DIGEST)).toBe(BYTES.length)
    },
  )

  test.each(LIES)(
    'reaches a client that wants parts and whose manifest claims %s bytes',
    async (size) => {
      await using world = await createWorldWithClaim(size)
      await expectGoodPart(world, LYING)
      await expectGood(world, ranged(LYING, '-1000'), BYTES.subarray(-1000))
    },
  )

  test('is 416 for a part behind its end, whatever the manifest claims', async () => {
    await using world = await createWorldWithClaim(10 * BYTES.length)
    using response = await world.client.openBlob(DIGEST, ranged(LYING, `${BYTES.length + 5}-`))
    expect(response.status).toBe(416)
    expect(response.headers.get('content-range')).toBe(`bytes */${BYTES.length}`)
  })

  test.each([true, false])(
    'reaches a client that joins one that wants a part behind the end (416 reports the size: %s)',
    async (isReported) => {
      await using world = await createWorldWithClaim(10 * BYTES.length)
      const stalled = world.upstream.fault({
        match: { kind: 'blob', method: 'GET', nth: 1 },
        stall: 'headers',
        ...(isReported ? {} : { omitHeaders: ['content-range'] }),
      })
      const lying = world.client.openBlob(DIGEST, ranged(LYING, `${5 * BYTES.length}-`))
      await expect.poll(() => stalled.hits).toBe(1)
      const honest = expectGood(world)
      await joined(world, 2)
      stalled.release()
      await honest
      using response = await lying
      expect(response.status).toBe(416)
    },
  )

  test.each([BYTES.length - 1, BYTES.length + 1, 2 ** 50])(
    'reaches a client that joins if the upstream reports no size and a manifest claims %s bytes',
    async (size) => {
      await using world = await createWorldWithClaim(size)
      const stalled = world.upstream.fault({
        match: { kind: 'blob', method: 'GET' },
        announcedLength: 'none',
        ignoreRange: true,
        stall: { afterBytes: MIB },
      })
      const lying = readToEnd(world, LYING)
      await sending(world)
      const honest = expectGood(world)
      await joined(world, 2)
      stalled.release()
      await honest
      await lying
      await expectKept(world)
    },
  )

  test('is kept although a manifest claims more than the disk has, and so is one that arrives beside it', async () => {
    await using world = await createWorldWithClaim(2 ** 50)
    const { upstream, client } = world
    const match = { kind: 'blob', digest: DIGEST, nth: 1 } as const
    const stalled = upstream.fault({ match, stall: 'headers' })
    const lying = expectGood(world, LYING)
    await expect.poll(() => stalled.hits).toBe(1)
    const bytes = syntheticBytes('beside', 0, MIB)
    using beside = await client.openBlob(upstream.addBlob(bytes).digest)
    expect((await beside.body()).bytes.equals(bytes)).toBe(true)
    await expect.poll(() => below(world, 'blobs')).toHaveLength(1)
    stalled.release()
    await lying
    await expect.poll(() => below(world, 'blobs')).toHaveLength(2)
  })
})
