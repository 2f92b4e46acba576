import { randomBytes } from 'node:crypto'
import { mkdir, readdir, truncate, utimes } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { digestOf } from '../../../src/oci/digest.ts'
import type { Digest } from '../../../src/oci/digest.ts'
import { Blobs } from '../../../src/store/blobs/blobs.ts'
import type { StorageDriver } from '../../../src/store/driver/driver.ts'
import { FilesystemDriver } from '../../../src/store/driver/filesystem.ts'
import { blobKey } from '../../../src/store/layout.ts'
import { MemoryDriver } from '../../../src/store/driver/memory.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import type { TemporaryDirectory } from '../../support/temporary-directory.ts'

describe.each([
  ['the file system', (directory: string): StorageDriver => new FilesystemDriver(directory)],
  ['memory', (): StorageDriver => new MemoryDriver()],
])('the blob store over %s', (_, createDriver) => {
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

  test('holds a committed ingest, which leaves nothing behind', async () => {
    const digest = await keep(content)
    expect(await blobs.stat(digest)).toEqual({ size: content.length })
    const object = (await blobs.open(digest))!
    const into = Buffer.alloc(content.length)
    expect(await object.read(into, 0)).toBe(content.length)
    expect(into.equals(content)).toBe(true)
    await object.close()
    expect(await readdir(directory.join('ingest'))).toEqual([])
  })

  test('gives undefined for what is not held, including an ingest that is not complete', async () => {
    const digest = digestOf(content)
    const ingest = await blobs.ingest(digest)
    await ingest.write(0, content)
    await ingest.verify(content.length)
    expect(await blobs.open(digest)).toBeUndefined()
    expect(await blobs.stat(digest)).toBeUndefined()
    await blobs.remove(digest)
    await ingest.close()
  })

  test('accepts a second commit of one digest, and removes its file', async () => {
    await Promise.all([keep(content), keep(content), keep(content)])
    expect(await readdir(directory.join('ingest'))).toEqual([])
    expect(await counted()).toEqual({ blobs: 1, bytes: content.length })
  })

  test('replaces a file whose size is wrong with a verified one', async () => {
    const digest = digestOf(content)
    await driver.put(blobKey(digest), content.subarray(0, 10))
    expect(await counted()).toEqual({ blobs: 1, bytes: 10 })
    await keep(content)
    expect(await blobs.stat(digest)).toEqual({ size: content.length })
    expect(await counted()).toEqual({ blobs: 1, bytes: content.length })
  })

  test('counts what was there, and follows commits and removals', async () => {
    const first = await keep(content)
    await keep(content.subarray(1))
    blobs = createBlobs()
    expect(await counted()).toEqual({ blobs: 2, bytes: 19_999 })
    await keep(content.subarray(2))
    await blobs.remove(first)
    await blobs.remove(first)
    expect(await counted()).toEqual({ blobs: 2, bytes: 19_997 })
  })

  test('counts right when blobs come and go while it counts', async () => {
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

  const quarantined = async () => {
    const found: number[] = []
    for await (const { key, size } of driver.walk('quarantine/')) {
      expect(key).toMatch(/^quarantine\/sha256\/[0-9a-f]{64}$/)
      found.push(size)
    }
    return found.toSorted((a, b) => a - b)
  }

  describe('a damaged blob', () => {
    const damaged = Buffer.from(content)
    damaged.writeUInt8(damaged.readUInt8(7000) ^ 1, 7000)
    const digest = digestOf(content)
    /** What an ingest that was begun because of it does at its end. */
    const replace = async () => {
      const ingest = await blobs.ingest(digest)
      await ingest.write(0, content)
      await ingest.verify(content.length)
      await ingest.commit({ replace: true })
      await ingest.close()
    }

    test('is told apart from a good one and from none', async () => {
      expect(await blobs.verify(digest)).toBe('absent')
      await driver.put(blobKey(digest), damaged)
      expect(await blobs.verify(digest)).toBe('wrong')
      await driver.put(blobKey(digest), content.subarray(0, 9999))
      expect(await blobs.verify(digest)).toBe('wrong')
      await driver.put(blobKey(digest), content)
      expect(await blobs.verify(digest)).toBe('good')
    })

    test.each([0, 1, 512 * 1024, 2 * 1024 * 1024 + 1])(
      'of %d bytes is read to its end',
      async (length) => {
        const bytes = randomBytes(length)
        await driver.put(blobKey(digestOf(bytes, 'sha512')), bytes)
        expect(await blobs.verify(digestOf(bytes, 'sha512'))).toBe('good')
      },
    )

    test('can be verified through an open file, and no longer than wanted', async () => {
      await driver.put(blobKey(digest), damaged)
      const object = (await blobs.open(digest))!
      await replace()
      expect(await blobs.verify(digest, { object })).toBe('wrong')
      expect(await blobs.verify(digest)).toBe('good')
      expect(await object.read(Buffer.alloc(10), 0)).toBe(10)
      await object.close()
      const signal = AbortSignal.abort(new Error('stopping'))
      await expect(blobs.verify(digest, { signal })).rejects.toThrow('stopping')
    })

    test('is removed from what is held, and quarantined', async () => {
      await driver.put(blobKey(digest), damaged)
      await keep(content.subarray(1))
      expect(await counted()).toEqual({ blobs: 2, bytes: 19_999 })
      const object = (await blobs.open(digest))!
      await Promise.all([blobs.quarantine(digest), blobs.quarantine(digest, object)])
      expect(await blobs.open(digest)).toBeUndefined()
      expect(await counted()).toEqual({ blobs: 1, bytes: 9999 })
      expect(await quarantined()).toEqual([10_000])
      expect(await object.read(Buffer.alloc(10), 0)).toBe(10)
      await object.close()
      await keep(content)
      expect(await counted()).toEqual({ blobs: 2, bytes: 19_999 })
    })

    test('is replaced in one step by a commit with `replace`, and by no other', async () => {
      await driver.put(blobKey(digest), damaged)
      expect(await counted()).toEqual({ blobs: 1, bytes: 10_000 })
      await keep(content)
      expect(await blobs.verify(digest)).toBe('wrong')
      await replace()
      expect(await blobs.verify(digest)).toBe('good')
      expect(await counted()).toEqual({ blobs: 1, bytes: 10_000 })
      await replace()
      expect(await counted()).toEqual({ blobs: 1, bytes: 10_000 })
    })

    test('that two readers find does not cost the good one that came for the first', async () => {
      await driver.put(blobKey(digest), damaged)
      const [first, second] = [(await blobs.open(digest))!, (await blobs.open(digest))!]
      await keep(content) // changes nothing: a blob of this size is held
      await blobs.quarantine(digest, first)
      await keep(content)
      await blobs.quarantine(digest, second)
      expect(await blobs.verify(digest)).toBe('good')
      const third = (await blobs.open(digest))!
      await blobs.quarantine(digest, third)
      expect(await blobs.verify(digest)).toBe('absent')
      await Promise.all([first.close(), second.close(), third.close()])
    })

    test('is one of a few in quarantine, where the oldest go and never the latest', async () => {
      blobs = new Blobs({
        driver,
        ingestDirectory: directory.join('ingest'),
        quarantine: { blobs: 3, bytes: 1000 },
      })
      const putAside = async (length: number) => {
        const bytes = randomBytes(length)
        await driver.put(blobKey(digestOf(bytes)), bytes)
        await blobs.quarantine(digestOf(bytes))
        expect(await blobs.stat(digestOf(bytes))).toBeUndefined()
        await new Promise((resolve) => setTimeout(resolve, 3)) // so that the next mtime is later
      }
      for (const length of [100, 101, 102, 103]) await putAside(length)
      expect(await quarantined()).toEqual([101, 102, 103])
      await putAside(1001)
      expect(await quarantined()).toEqual([1001])
      for (const length of [600, 299]) await putAside(length)
      expect(await quarantined()).toEqual([299, 600])
    })

    test('is not quarantined where that leaves no room to fetch it again', async () => {
      class FullDriver extends MemoryDriver {
        override async space(): Promise<{ freeBytes: number; totalBytes: number }> {
          return { freeBytes: damaged.length - 1, totalBytes: 10 * damaged.length }
        }
      }
      driver = new FullDriver()
      blobs = new Blobs({ driver, ingestDirectory: directory.join('ingest') })
      await driver.put(blobKey(digest), damaged)
      await blobs.quarantine(digest)
      expect(await blobs.stat(digest)).toBeUndefined()
      expect(await quarantined()).toEqual([])
    })
  })

  test('says that a stopped count is not complete', async () => {
    await keep(content)
    const stopped = createBlobs()
    await stopped.usage()
    stopped.close()
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect((await stopped.usage()).complete).toBe(false)
  })
})

const word = Buffer.from('content')

test('the free space is what both the local file and the driver have, asked once a second', async () => {
  await using directory = await temporaryDirectory()
  let asked = 0
  class SmallDriver extends MemoryDriver {
    override async space(): Promise<{ freeBytes: number; totalBytes: number }> {
      asked++
      return { freeBytes: 5000, totalBytes: 10_000 }
    }
  }
  const ingestDirectory = directory.join('ingest')
  const blobs = new Blobs({ driver: new SmallDriver(), ingestDirectory })
  await expect(blobs.space()).rejects.toThrow(/ENOENT/) // failures are not cached
  await mkdir(ingestDirectory)
  asked = 0
  vi.useFakeTimers({ toFake: ['Date'] })
  try {
    expect(await Promise.all([blobs.space(), blobs.space()])).toEqual([
      { freeBytes: 5000 },
      { freeBytes: 5000 },
    ])
    vi.setSystemTime(Date.now() + 999)
    await blobs.space()
    expect(asked).toBe(1)
    vi.setSystemTime(Date.now() + 1)
    await blobs.space()
    expect(asked).toBe(2)
  } finally {
    vi.useRealTimers()
  }
  const large = new Blobs({ driver: new MemoryDriver(Infinity), ingestDirectory })
  expect((await large.space()).freeBytes).toBeLessThan(Infinity)
})

test('opening records the last use at most once a minute, and never fails because of it', async () => {
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
