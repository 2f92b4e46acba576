import { randomBytes } from 'node:crypto'
import { mkdir, readdir, truncate, utimes } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { Blobs } from '../../src/store/blobs.ts'
import type { StorageDriver } from '../../src/store/driver.ts'
import { FilesystemDriver } from '../../src/store/filesystem.ts'
import { blobKey } from '../../src/store/layout.ts'
import { MemoryDriver } from '../../src/store/memory.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import type { TemporaryDirectory } from '../support/temporary-directory.ts'

describe.each([
  ['the file system', (directory: string): StorageDriver => new FilesystemDriver(directory)],
  ['memory', (): StorageDriver => new MemoryDriver()],
])('Blobs over %s', (_, createDriver) => {
  let directory: TemporaryDirectory
  let driver: StorageDriver
  let blobs: Blobs
  const errors: string[] = []

  const createBlobs = () =>
    new Blobs({
      driver,
      ingestDirectory: directory.join('ingest'),
      observer: { storeError: (operation, error) => errors.push(`${operation}: ${error.message}`) },
    })

  beforeEach(async () => {
    errors.length = 0
    directory = await temporaryDirectory()
    await mkdir(directory.join('ingest'))
    driver = createDriver(directory.path)
    blobs = createBlobs()
  })
  afterEach(async () => {
    blobs.close()
    await directory.remove()
  })

  const keep = async (content: Uint8Array): Promise<Digest> => {
    const digest = digestOf(content)
    const ingest = await blobs.ingest(digest)
    await ingest.write(0, content)
    await ingest.verify(content.length)
    await ingest.commit()
    await ingest.close()
    return digest
  }
  const content = randomBytes(10_000)
  const counted = async () => {
    for (;;) {
      const usage = await blobs.usage()
      if (usage.complete) return { blobs: usage.blobs, bytes: usage.bytes }
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  test('a committed ingest is held, and leaves nothing behind', async () => {
    const digest = await keep(content)
    expect(await blobs.stat(digest)).toEqual({ size: content.length })
    const object = (await blobs.open(digest))!
    const into = Buffer.alloc(content.length)
    expect(await object.read(into, 0)).toBe(content.length)
    expect(into.equals(content)).toBe(true)
    await object.close()
    expect(await readdir(directory.join('ingest'))).toEqual([])
  })

  test('what is not held is undefined, an ingest that still fills included', async () => {
    const digest = digestOf(content)
    const ingest = await blobs.ingest(digest)
    await ingest.write(0, content)
    await ingest.verify(content.length)
    expect(await blobs.open(digest)).toBeUndefined()
    expect(await blobs.stat(digest)).toBeUndefined()
    await blobs.remove(digest)
    await ingest.close()
  })

  test('a second commit of one digest is done, and removes its file', async () => {
    await Promise.all([keep(content), keep(content), keep(content)])
    expect(await readdir(directory.join('ingest'))).toEqual([])
    expect(await counted()).toEqual({ blobs: 1, bytes: content.length })
  })

  test('a verified file takes the place of one whose size is wrong', async () => {
    const digest = digestOf(content)
    await driver.put(blobKey(digest), content.subarray(0, 10))
    expect(await counted()).toEqual({ blobs: 1, bytes: 10 })
    await keep(content)
    expect(await blobs.stat(digest)).toEqual({ size: content.length })
    expect(await counted()).toEqual({ blobs: 1, bytes: content.length })
  })

  test('usage counts what was there, and follows commits and removals', async () => {
    const first = await keep(content)
    await keep(content.subarray(1))
    blobs = createBlobs()
    expect(await counted()).toEqual({ blobs: 2, bytes: 19_999 })
    await keep(content.subarray(2))
    await blobs.remove(first)
    await blobs.remove(first)
    expect(await counted()).toEqual({ blobs: 2, bytes: 19_997 })
  })

  test('usage is right when blobs come and go while it counts', async () => {
    const all = Array.from({ length: 60 }, (__, n) => randomBytes(100 + n))
    const digests = await Promise.all(all.map(keep))
    blobs = createBlobs()
    const counting = counted()
    await Promise.all([
      ...digests.slice(0, 30).map((digest) => blobs.remove(digest)),
      ...Array.from({ length: 20 }, (__, n) => keep(randomBytes(1000 + n))),
    ])
    await counting
    const left = all.slice(30).reduce((sum, bytes) => sum + bytes.length, 0) + 20_000 + 190
    expect(await counted()).toEqual({ blobs: 50, bytes: left })
    const recounted = createBlobs()
    blobs = recounted
    expect(await counted()).toEqual({ blobs: 50, bytes: left })
  })

  test('a count that is stopped says that it is not complete', async () => {
    await keep(content)
    const stopped = createBlobs()
    await stopped.usage()
    stopped.close()
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect((await stopped.usage()).complete).toBe(false)
  })
})

const word = Buffer.from('content')

test('opening notes the last use at most once a minute, and never fails for it', async () => {
  await using directory = await temporaryDirectory()
  await mkdir(directory.join('ingest'))
  let broken = false
  class TouchyDriver extends FilesystemDriver {
    override async touch(key: string): Promise<void> {
      if (broken) throw new Error('read-only')
      await super.touch(key)
    }
  }
  const driver = new TouchyDriver(directory.path)
  const errors: string[] = []
  const observer = { storeError: (operation: string) => void errors.push(operation) }
  const blobs = new Blobs({ driver, ingestDirectory: directory.join('ingest'), observer })
  const digest = digestOf(word)
  await driver.put(blobKey(digest), word)
  const file = directory.join(blobKey(digest))
  const usedAt = async () => (await driver.stat(blobKey(digest)))!.usedAtMs
  const openOnce = async () => (await blobs.open(digest))!.close()

  await utimes(file, 1, 1)
  await openOnce()
  await expect.poll(usedAt).toBeGreaterThan(1_000_000)
  await utimes(file, 1, 1)
  await openOnce()
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(await usedAt()).toBe(1000)

  broken = true
  const other = Buffer.from('other')
  await driver.put(blobKey(digestOf(other)), other)
  await (await blobs.open(digestOf(other)))!.close()
  await expect.poll(() => errors).toEqual(['touch blob'])
})

test('a file cut short by hand shows its true size', async () => {
  await using directory = await temporaryDirectory()
  await mkdir(directory.join('ingest'))
  const driver = new FilesystemDriver(directory.path)
  const blobs = new Blobs({ driver, ingestDirectory: directory.join('ingest') })
  const digest = digestOf(word)
  await driver.put(blobKey(digest), word)
  await truncate(directory.join(blobKey(digest)), 3)
  expect(await blobs.stat(digest)).toEqual({ size: 3 })
})
