import { readdir } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { TruncatedContent } from '../../../src/cache/content.ts'
import { HeldBlobs } from '../../../src/cache/blob/held-blobs.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import type { StoredObject } from '../../../src/store/driver/driver.ts'
import { openStore, type Store } from '../../../src/store/store.ts'
import { filesBelow } from '../../support/cache-files.ts'
import { type TemporaryDirectory, temporaryDirectory } from '../../support/temporary-directory.ts'

const MIB = 1024 * 1024
const BYTES = Buffer.from('what was kept')
const DIGEST = digestOf(BYTES)

let directory: TemporaryDirectory
let store: Store
let errors: string[]
let held: HeldBlobs

const observer = { storeError: (operation: string) => void errors.push(operation) }

beforeEach(async () => {
  errors = []
  directory = await temporaryDirectory()
  store = await openStore({ directory: directory.path })
  held = new HeldBlobs({ blobs: store.blobs, observer, random: () => 1 })
  await keep(BYTES)
})

afterEach(async () => {
  vi.restoreAllMocks()
  await store.close()
  await directory.remove()
})

function failed(code: string): Error {
  return Object.assign(new Error(`${code}: read`), { code })
}

async function keep(bytes: Buffer): Promise<void> {
  const ingest = await store.blobs.ingest(digestOf(bytes))
  await ingest.write(0, bytes)
  await ingest.verify(bytes.length)
  await ingest.commit()
  await ingest.close()
}

async function isSound(claimedSize: number | undefined): Promise<boolean | undefined> {
  const object = await held.open(DIGEST)
  try {
    return object && (await held.isSound(DIGEST, object, claimedSize))
  } finally {
    await object?.close()
  }
}

describe('a held blob whose size is claimed to be another', () => {
  test('is hashed once, however many manifests claim it, and is kept', async () => {
    const verify = vi.spyOn(store.blobs, 'verify')
    const claims = Array.from({ length: 50 }, (_, index) => BYTES.length + 1 + index)
    expect(new Set(await Promise.all(claims.map(isSound)))).toEqual(new Set([true]))
    for (const claim of claims) expect(await isSound(claim)).toBe(true)
    expect(verify).toHaveBeenCalledTimes(1)
    expect(errors).toEqual([])
    expect(await filesBelow(directory.join('quarantine'))).toEqual([])
  })

  test('is not hashed when it is only opened or its size is asked for', async () => {
    const verify = vi.spyOn(store.blobs, 'verify')
    const object = await held.open(DIGEST)
    expect(object?.size).toBe(BYTES.length)
    await object?.close()
    expect(await held.size(DIGEST)).toBe(BYTES.length)
    expect(verify).not.toHaveBeenCalled()
  })
})

describe('a held blob that could not be read', () => {
  test.each(['ENOMEM', 'EMFILE', 'EAGAIN'])(
    'because of %s is kept: the blob is not at fault',
    async (code) => {
      const object = await held.open(DIGEST)
      await held.readFailed(DIGEST, object!, failed(code))
      await object!.close()
      expect(errors).toEqual(['read blob'])
      expect(await held.size(DIGEST)).toBe(BYTES.length)
    },
  )

  test.each([
    ['EIO', failed('EIO')],
    ['an end before its size', new TruncatedContent('it ends at byte 5')],
  ])('because of %s is quarantined', async (_what, why) => {
    const object = await held.open(DIGEST)
    await held.readFailed(DIGEST, object!, why)
    await object!.close()
    expect(errors).toEqual(['damaged blob'])
    expect(await held.size(DIGEST)).toBeUndefined()
    expect(await readdir(directory.join('quarantine'))).toHaveLength(1)
  })
})

test('samples of large blobs are hashed one at a time, also when two are opened at once', async () => {
  const gate = Promise.withResolvers<'good'>()
  const verified: string[] = []
  const large: StoredObject = { size: 33 * MIB, read: async () => 0, close: async () => {} }
  const blobs = {
    open: async () => large,
    stat: async () => large,
    quarantine: async () => {},
    verify: (digest: string) => {
      verified.push(digest)
      return gate.promise
    },
  }
  const sampled = new HeldBlobs({ blobs, observer, sampleEvery: 1, random: () => 0 })
  const digests = [digestOf(Buffer.from('a')), digestOf(Buffer.from('b'))]
  for (const digest of digests) expect(await sampled.isSound(digest, large, large.size)).toBe(true)
  await vi.waitFor(() => expect(verified).not.toEqual([]))
  for (const digest of digests) expect(await sampled.isSound(digest, large, large.size)).toBe(true)
  await new Promise(setImmediate)
  expect(verified).toEqual([digests[0]])
  gate.resolve('good')
})
