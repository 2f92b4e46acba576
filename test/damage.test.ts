// A cache whose disk lies: held blobs that are short, gone, cannot be read or hold other bytes. No
// client sees any of it while an upstream has the content.
import { open, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { HeldBlobs } from '../src/cache/blob/held-blobs.ts'
import { RepairingContent } from '../src/cache/blob/repairing-content.ts'
import { HeldContent } from '../src/cache/content.ts'
import { digestOf } from '../src/oci/digest.ts'
import { openStore, type Store } from '../src/store/store.ts'
import { syntheticBytes } from './support/content.ts'
import { failFiles } from './support/failing-files.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'
import { createWorld, type World } from './support/world.ts'

const MIB = 1024 * 1024
/** More than socket buffers hold, so that a reader can be stopped in the middle. */
const BYTES = syntheticBytes('damage', 0, 24 * MIB)
const DIGEST = digestOf(BYTES)

/** The path of a held blob's file below the cache directory. */
async function fileOf(cache: string, digest: string): Promise<string> {
  const names = await readdir(join(cache, 'blobs'), { recursive: true })
  const name = names.find((each) => each.endsWith(digest.slice('sha256:'.length)))
  if (name === undefined) throw new Error(`${digest} is not held`)
  return join(cache, 'blobs', name)
}

/** A world whose server holds BYTES, and checks whatever it reads. */
async function createHoldingWorld(): Promise<World> {
  const world = await createWorld({ scale: { sampleEvery: 1 } })
  world.upstream.addImage('team/app', 'v1', { layers: [BYTES] })
  await world.client.manifest('v1')
  await expectGood(world)
  // Its file is there a moment before the download is over.
  await expect.poll(() => world.client.metric('chandlery_downloads_total{outcome="kept"}')).toBe(1)
  return world
}

async function expectGood({ client }: World): Promise<void> {
  using response = await client.openBlob(DIGEST)
  const { bytes, complete } = await response.body()
  expect([response.status, complete]).toEqual([200, true])
  expect(bytes.equals(BYTES)).toBe(true)
}

/** The upstream is soon not asked any more. */
async function expectKept(world: World): Promise<void> {
  const { requests } = world.upstream
  await expect
    .poll(async () => {
      const before = requests.length
      await expectGood(world)
      return requests.length - before
    })
    .toBe(0)
}

describe('a held blob that is damaged', () => {
  test('because it is short is fetched again and kept', async () => {
    await using world = await createHoldingWorld()
    await truncate(await fileOf(world.cache(), DIGEST), MIB)
    await expectGood(world)
    await expectKept(world)
  })

  test('because its file is gone is fetched again', async () => {
    await using world = await createHoldingWorld()
    await rm(await fileOf(world.cache(), DIGEST))
    await expectGood(world)
    await expectKept(world)
  })

  test('because it holds other bytes is found by a sample, quarantined, and fetched in that response', async () => {
    await using world = await createHoldingWorld()
    const file = await open(await fileOf(world.cache(), DIGEST), 'r+')
    await file.write(Buffer.from('damaged'), 0, 7, 12 * MIB)
    await file.close()
    await expectGood(world)
    const putAside = () => readdir(world.cache('quarantine')).catch(() => [])
    await expect.poll(putAside).toHaveLength(1)
    const damaged = 'chandlery_store_errors_total{operation="damaged blob"}'
    expect(await world.client.metric(damaged)).toBe(1)
    await expectKept(world)
  })

  test('after it was kept, while a client still reads what arrived, is replaced in that response', async () => {
    await using world = await createHoldingWorld()
    await rm(await fileOf(world.cache(), DIGEST))
    using response = await world.client.openBlob(DIGEST)
    const start = await response.read(1000)
    response.pause()
    await expect.poll(() => fileOf(world.cache(), DIGEST)).toBeTruthy()
    using disk = await failFiles('read', 'EIO')
    const { bytes, complete } = await response.body()
    expect(disk.failures).toBeGreaterThan(0)
    disk[Symbol.dispose]()
    expect([complete, Buffer.concat([start, bytes]).equals(BYTES)]).toEqual([true, true])
    await expectKept(world)
  })

  test('while it is sent is continued from the upstream in the same response', async () => {
    await using world = await createHoldingWorld()
    using response = await world.client.openBlob(DIGEST)
    const start = await response.read(1000)
    response.pause()
    await truncate(await fileOf(world.cache(), DIGEST), MIB)
    const asked = world.upstream.requests.length
    const { bytes, complete } = await response.body()
    expect(complete).toBe(true)
    expect(world.upstream.requests.length).toBeGreaterThan(asked)
    expect(Buffer.concat([start, bytes]).equals(BYTES)).toBe(true)
  })
})

describe('a held blob with other bytes than its digest says', () => {
  let directory: TemporaryDirectory
  let store: Store
  const errors: string[] = []
  const observer = { storeError: (operation: string) => void errors.push(operation) }
  const bytes = Buffer.from('what was kept')
  const digest = digestOf(bytes)

  beforeEach(async () => {
    errors.length = 0
    directory = await temporaryDirectory()
    store = await openStore({ directory: directory.path })
    const ingest = await store.blobs.ingest(digest)
    await ingest.write(0, bytes)
    await ingest.verify(bytes.length)
    await ingest.commit()
    await ingest.close()
    await writeFile(await fileOf(directory.path, digest), 'what WAS kept')
  })

  afterEach(async () => {
    await store.close()
    await directory.remove()
  })

  /** What may be served of it. */
  async function openSound(held: HeldBlobs, claimedSize?: number) {
    const object = await held.open(digest)
    if (object === undefined || (await held.isSound(digest, object, claimedSize))) return object
    await object.close()
    return undefined
  }

  test('is found when a sample of the reads is checked, and is quarantined', async () => {
    const held = new HeldBlobs({ blobs: store.blobs, observer, sampleEvery: 1 })
    expect(await openSound(held, bytes.length)).toBeUndefined()
    expect(errors).toContain('damaged blob')
    expect(await held.open(digest)).toBeUndefined()
  })

  test('is not served again where it cannot be quarantined', async () => {
    const { blobs } = store
    const failing = {
      open: blobs.open.bind(blobs),
      stat: blobs.stat.bind(blobs),
      verify: blobs.verify.bind(blobs),
      quarantine: () => Promise.reject(new Error('the disk is read-only')),
    }
    let chance = 0
    const random = () => chance
    const held = new HeldBlobs({ blobs: failing, observer, sampleEvery: 1.01, random })
    expect(await openSound(held, bytes.length)).toBeUndefined()
    chance = 1
    expect(await openSound(held, bytes.length)).toBeUndefined()
    await writeFile(await fileOf(directory.path, digest), bytes)
    const good = await openSound(held, bytes.length)
    expect(good?.size).toBe(bytes.length)
    await good?.close()
  })

  test('is not served at all where its expected size is unknown', async () => {
    const held = new HeldBlobs({ blobs: store.blobs, observer, random: () => 1 })
    expect(await openSound(held)).toBeUndefined()
    expect(errors).toContain('damaged blob')
  })
})

test('a blob that cannot be read is continued from elsewhere, with the same plan and promise', async () => {
  const bytes = Buffer.from('0123456789')
  const digest = digestOf(bytes)
  const readable = { size: 10, close: async () => {} }
  const broken = { ...readable, read: () => Promise.reject(new Error('EIO')) }
  const whole = {
    ...readable,
    read: async (into: Uint8Array, at: number) => bytes.copy(into, 0, at),
  }
  const told: unknown[] = []
  const good = Object.assign(new HeldContent(digest, whole), {
    plan: (ranges: unknown) => void told.push(ranges),
    promise: () => void told.push('promised'),
  })
  const repair = async (why: unknown) => {
    told.push(String(why))
    return good
  }
  const content = new RepairingContent({ content: new HeldContent(digest, broken), repair })
  content.plan([{ start: 4, end: 8 }])
  content.promise()
  const into = Buffer.alloc(4)
  expect(await content.read(into, 4)).toBe(4)
  expect(into.toString()).toBe('4567')
  expect(told).toEqual(['Error: EIO', [{ start: 4, end: 8 }], 'promised'])
  await content.close()
})

const eio = () => Promise.reject(new Error('EIO'))

describe('a damaged file that cannot be closed either', () => {
  const bytes = Buffer.from('0123456789')
  const digest = digestOf(bytes)
  const damaged = () => new HeldContent(digest, { size: 10, read: eio, close: eio })

  function goodContent(): { content: HeldContent; closed: () => number } {
    let count = 0
    const content = new HeldContent(digest, {
      size: 10,
      read: async (into, at) => bytes.copy(into, 0, at),
      close: async () => void (count += 1),
    })
    return { content, closed: () => count }
  }

  test('does not end the response, and its replacement is closed with that', async () => {
    const good = goodContent()
    const content = new RepairingContent({ content: damaged(), repair: async () => good.content })
    const into = Buffer.alloc(4)
    expect(await content.read(into, 4)).toBe(4)
    expect(into.toString()).toBe('4567')
    await content.close()
    expect(good.closed()).toBe(1)
  })

  test('leaves nothing open when the client leaves while it is repaired', async () => {
    const good = goodContent()
    const repaired = Promise.withResolvers<HeldContent>()
    const asked = Promise.withResolvers<void>()
    const repair = async () => {
      asked.resolve()
      return await repaired.promise
    }
    const content = new RepairingContent({ content: damaged(), repair })
    const reading = content.read(Buffer.alloc(4), 4).catch(() => {})
    await asked.promise
    await expect(content.close()).rejects.toThrow('EIO')
    repaired.resolve(good.content)
    await reading
    expect(good.closed()).toBe(1)
  })

  test('still counts as absent, so that it is fetched again', async () => {
    const told: string[] = []
    const object = { size: 4, read: eio, close: eio }
    const held = new HeldBlobs({
      blobs: {
        open: async () => object,
        stat: async () => ({ size: 4 }),
        verify: async () => 'wrong',
        quarantine: async () => {},
      },
      observer: { storeError: (operation) => void told.push(operation) },
    })
    const opened = await held.open(digest)
    expect(opened).toBe(object)
    expect(await held.isSound(digest, object, undefined)).toBe(false)
    await held.close(object)
    expect(told).toEqual(['damaged blob', 'close blob'])
  })
})
