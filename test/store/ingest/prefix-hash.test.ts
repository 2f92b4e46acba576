import { randomBytes } from 'node:crypto'
import { open, readFile, truncate, writeFile } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Intervals } from '../../../src/http/intervals.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { LocalIngest } from '../../../src/store/ingest/ingest.ts'
import { PrefixHash } from '../../../src/store/ingest/prefix-hash.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import type { TemporaryDirectory } from '../../support/temporary-directory.ts'

const MiB = 1024 * 1024
const content = randomBytes(3 * MiB + 17)
const digest = digestOf(content)
const goOn = () => {}
const refuse = () => {
  throw new Error('closed')
}

let directory: TemporaryDirectory
let path: string
let file: FileHandle
let have: Intervals
let hash: PrefixHash

beforeEach(async () => {
  directory = await temporaryDirectory()
  path = directory.join('file')
  file = await open(path, 'wx+')
  have = new Intervals()
  hash = new PrefixHash('sha256', file, have)
})
afterEach(async () => {
  await hash.stop()
  await file.close()
  await directory.remove()
})

const put = async (start: number, end: number): Promise<void> => {
  await file.write(content, start, end - start, start)
  have.add(start, end)
  hash.written(start, [content.subarray(start, end)])
}
/** Overwrites the file: a hash that reads it from now on is wrong. */
const spoil = () => writeFile(path, Buffer.alloc(content.length))

test('bytes in order are hashed from memory alone', async () => {
  await file.truncate(content.length)
  for (let at = 0; at < content.length; at += MiB) {
    const end = Math.min(at + MiB, content.length)
    have.add(at, end)
    hash.written(at, [content.subarray(at, at + 5), content.subarray(at + 5, end)])
    expect(hash.hashed).toBe(end)
  }
  expect(await hash.digestOf(content.length, goOn)).toBe(digest)
})

test('bytes that came out of order are hashed in the background, before anybody asks for the digest', async () => {
  await put(2 * MiB, content.length)
  await put(MiB, 2 * MiB)
  expect(hash.hashed).toBe(0)
  await put(0, MiB)
  await expect.poll(() => hash.hashed).toBe(content.length)
  await spoil()
  expect(await hash.digestOf(content.length, goOn)).toBe(digest)
})

test('hashing continues from memory when it has caught up', async () => {
  await put(MiB, 2 * MiB)
  await put(0, MiB)
  await expect.poll(() => hash.hashed).toBe(2 * MiB)
  have.add(2 * MiB, content.length)
  hash.written(2 * MiB, [content.subarray(2 * MiB)]) // these bytes are not in the file
  expect(hash.hashed).toBe(content.length)
  expect(await hash.digestOf(content.length, goOn)).toBe(digest)
})

test('bytes that come while the file is read are neither missed nor hashed twice', async () => {
  await put(1, MiB)
  await put(0, 1)
  for (let at = MiB; at < content.length; at += 40_000) {
    await put(at, Math.min(at + 40_000, content.length))
  }
  await expect.poll(() => hash.hashed).toBe(content.length)
  expect(await hash.digestOf(content.length, goOn)).toBe(digest)
})

test('a read that failed in the background is tried again for the digest, and its error is thrown then', async () => {
  await put(MiB, content.length)
  await truncate(path, MiB)
  await put(0, MiB) // starts to read the file and fails
  await hash.digestOf(content.length, goOn).then(
    () => expect.unreachable(),
    (error: unknown) => expect(String(error)).toMatch(/ends before byte/),
  )
  await writeFile(path, content)
  expect(await hash.digestOf(content.length, goOn)).toBe(digest)
})

test('the file is not read any further once hashing is stopped, nor where its owner may not continue', async () => {
  await put(1, content.length)
  await put(0, 1)
  await hash.stop()
  expect(hash.hashed).toBeLessThan(content.length)
  await expect(hash.digestOf(content.length, refuse)).rejects.toThrow('closed')
  expect(await hash.digestOf(content.length, goOn)).toBe(digest)
})

test('the hash is right for pieces that several connections bring in any order', async () => {
  const piece = 64 * 1024
  const small = content.subarray(0, 20 * piece + 5)
  const wanted = digestOf(small)
  const order = fc.shuffledSubarray([...Array(21).keys()], { minLength: 21, maxLength: 21 })
  await fc.assert(
    fc.asyncProperty(order, fc.integer({ min: 1, max: 5 }), async (pieces, connections) => {
      const ingest = await LocalIngest.create({
        directory: directory.path,
        digest: wanted,
        adopt: () => Promise.resolve(),
      })
      const queue = [...pieces]
      const connection = async (): Promise<void> => {
        for (let n = queue.shift(); n !== undefined; n = queue.shift()) {
          const end = Math.min((n + 1) * piece, small.length)
          for (let at = n * piece; at < end; at += 10_000) {
            await ingest.write(at, small.subarray(at, Math.min(at + 10_000, end)))
          }
        }
      }
      await Promise.all(Array.from({ length: connections }, connection))
      await ingest.verify(small.length)
      await ingest.close()
    }),
    { numRuns: 25 },
  )
  expect((await readFile(path)).length).toBe(0)
})
