// A cache whose disk lies: held blobs that are short, gone, cannot be read or hold other bytes. No
// client sees any of it while an upstream has the content.
import { open, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { HeldBlobs } from '../src/cache/held-blobs.ts'
import { RepairingContent } from '../src/cache/repairing-content.ts'
import { HeldContent } from '../src/cache/content.ts'
import { digestOf } from '../src/oci/digest.ts'
import { openStore, type Store } from '../src/store/store.ts'
import { mirrorOf, type RunningChandlery, startChandlery } from './support/chandlery.ts'
import { syntheticBytes } from './support/content.ts'
import { failFiles } from './support/failing-files.ts'
import { rawRequest } from './support/raw-client.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const MIB = 1024 * 1024
const REGISTRY = 'registry.test'
/** More than socket buffers hold, so that a reader can be stopped in the middle. */
const BYTES = syntheticBytes('damage', 0, 24 * MIB)

let directory: TemporaryDirectory

beforeEach(async () => {
  directory = await temporaryDirectory()
})

afterEach(() => directory.remove())

/** The path of a held blob's file below the cache directory. */
async function fileOf(cache: string, digest: string): Promise<string> {
  const names = await readdir(join(cache, 'blobs'), { recursive: true })
  const name = names.find((each) => each.endsWith(digest.slice('sha256:'.length)))
  if (name === undefined) throw new Error(`${digest} is not held`)
  return join(cache, 'blobs', name)
}

describe('a held blob that is damaged', () => {
  let upstream: TestRegistry
  let chandlery: RunningChandlery
  let url: string
  let digest: string

  beforeEach(async () => {
    upstream = await startRegistry()
    const config = mirrorOf(REGISTRY, upstream.url)
    chandlery = await startChandlery(directory.path, config, { sampleEvery: 1 })
    const base = `${chandlery.url}/v2/${REGISTRY}/team/app`
    digest = upstream.addImage('team/app', 'v1', { layers: [BYTES] }).layers[0]!.digest
    await (await fetch(`${base}/manifests/v1`)).arrayBuffer()
    url = `${base}/blobs/${digest}`
    await expectGood()
    // Its file is there a moment before the download is over.
    await expect.poll(metrics).toContain('chandlery_downloads_total{outcome="kept"} 1')
  })

  afterEach(async () => {
    await chandlery.stop()
    await upstream.close()
  })

  async function metrics(): Promise<string> {
    return await (await fetch(`${chandlery.adminUrl}/metrics`)).text()
  }

  async function expectGood(): Promise<void> {
    const response = await rawRequest(url)
    const { bytes, complete } = await response.body()
    expect([response.status, complete]).toEqual([200, true])
    expect(bytes.equals(BYTES)).toBe(true)
  }

  /** The upstream is soon not asked any more. */
  async function expectKept(): Promise<void> {
    await expect
      .poll(async () => {
        const before = upstream.requests.length
        await expectGood()
        return upstream.requests.length - before
      })
      .toBe(0)
  }

  test('because it is short is fetched again and kept', async () => {
    await truncate(await fileOf(join(directory.path, 'cache'), digest), MIB)
    await expectGood()
    await expectKept()
  })

  test('because its file is gone is fetched again', async () => {
    await rm(await fileOf(join(directory.path, 'cache'), digest))
    await expectGood()
    await expectKept()
  })

  test('because it holds other bytes is found by a sample, put aside, and fetched in that response', async () => {
    const cache = join(directory.path, 'cache')
    const file = await open(await fileOf(cache, digest), 'r+')
    await file.write(Buffer.from('damaged'), 0, 7, 12 * MIB)
    await file.close()
    await expectGood()
    expect(await readdir(join(cache, 'quarantine'))).toHaveLength(1)
    expect(await metrics()).toContain('chandlery_store_errors_total{operation="damaged blob"} 1')
    await expectKept()
  })

  test('after it was kept, while a client still reads what arrived, is replaced in that response', async () => {
    await rm(await fileOf(join(directory.path, 'cache'), digest))
    using response = await rawRequest(url)
    const start = await response.read(1000)
    response.pause()
    await expect.poll(() => fileOf(join(directory.path, 'cache'), digest)).toBeTruthy()
    using disk = await failFiles('read', 'EIO')
    const { bytes, complete } = await response.body()
    expect(disk.failures).toBeGreaterThan(0)
    disk[Symbol.dispose]()
    expect([complete, Buffer.concat([start, bytes]).equals(BYTES)]).toEqual([true, true])
    await expectKept()
  })

  test('while it is sent goes on from the upstream in the same response', async () => {
    using response = await rawRequest(url)
    const start = await response.read(1000)
    response.pause()
    await truncate(await fileOf(join(directory.path, 'cache'), digest), MIB)
    const asked = upstream.requests.length
    const { bytes, complete } = await response.body()
    expect(complete).toBe(true)
    expect(upstream.requests.length).toBeGreaterThan(asked)
    expect(Buffer.concat([start, bytes]).equals(BYTES)).toBe(true)
  })
})

describe('a held blob with other bytes than its digest says', () => {
  let store: Store
  const errors: string[] = []
  const observer = { storeError: (operation: string) => void errors.push(operation) }
  const bytes = Buffer.from('what was kept')
  const digest = digestOf(bytes)

  beforeEach(async () => {
    errors.length = 0
    store = await openStore({ directory: directory.path })
    const ingest = await store.blobs.ingest(digest)
    await ingest.write(0, bytes)
    await ingest.verify(bytes.length)
    await ingest.commit()
    await ingest.close()
    await writeFile(await fileOf(directory.path, digest), 'what WAS kept')
  })

  afterEach(() => store.close())

  /** What may be served of it. */
  async function openSound(held: HeldBlobs, claimedSize?: number) {
    const object = await held.open(digest)
    if (object === undefined || (await held.isSound(digest, object, claimedSize))) return object
    await object.close()
    return undefined
  }

  test('is found when a sample of the reads is checked, and put aside', async () => {
    const held = new HeldBlobs({ blobs: store.blobs, observer, sampleEvery: 1 })
    expect(await openSound(held, bytes.length)).toBeUndefined()
    expect(errors).toContain('damaged blob')
    expect(await held.open(digest)).toBeUndefined()
  })

  test('is not served again where it cannot be put aside', async () => {
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

  test('is not served at all where nobody knows how long it should be', async () => {
    const held = new HeldBlobs({ blobs: store.blobs, observer, random: () => 1 })
    expect(await openSound(held)).toBeUndefined()
    expect(errors).toContain('damaged blob')
  })
})

test('a blob that cannot be read goes on from elsewhere, with what was planned and promised', async () => {
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

  test('does not end the response, and what took its place is closed with that', async () => {
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
})
