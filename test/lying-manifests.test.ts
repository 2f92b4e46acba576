// Manifests that lie about the size of a blob. Whoever may push one to a repository can name any digest
// with any size: that must cost nobody else their blob.
import { readFile, stat } from 'node:fs/promises'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import { Blobs } from '../src/store/blobs/blobs.ts'
import { filesBelow } from './support/cache-files.ts'
import { mirrorOf } from './support/chandlery.ts'
import { type OpenOptions, REGISTRY } from './support/client.ts'
import { syntheticBytes } from './support/content.ts'
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

function below(world: World, part: 'blobs' | 'quarantine'): Promise<string[]> {
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
