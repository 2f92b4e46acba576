// Readers of blobs that cannot be kept, where things happen in an unlucky order.
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { DownloadsOptions } from '../../../src/cache/download/downloads.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import {
  begin,
  blob,
  bypassScene,
  expectSame,
  MIB,
  read,
  readAll,
  upstream,
} from './bypass-fixture.ts'

const KIB = 1024
const signal = new AbortController().signal
const { ingestsOn, open } = bypassScene()

test('a reader is given nothing that it was reading from the file when that proved wrong', async () => {
  const bytes = blob(20 * MIB)
  const wrong = Buffer.from(bytes)
  wrong[5]! ^= 1
  let gate: Promise<void> | undefined
  const createIngest: DownloadsOptions['createIngest'] = async (digest) => {
    const ingest = await ingestsOn(8 * MIB)(digest)
    const readFile = ingest.read.bind(ingest)
    ingest.read = async (into, at) => {
      await gate
      return await readFile(into, at)
    }
    return ingest
  }
  const one = upstream((nth) => (nth === 0 ? wrong : bytes))
  const download = begin(open({ createIngest }), digestOf(bytes), [one], bytes.length)
  const other = await read(download, { pauseMs: 1 })
  await expect.poll(() => download.state).toBe('bypassing')
  const content = download.read()
  content.plan(undefined)
  await content.wait(0, signal)
  const proved = Promise.withResolvers<void>()
  gate = proved.promise
  const into = Buffer.alloc(256 * KIB)
  const reading = content.read(into, 0)
  gate = undefined
  await expect(other.done).rejects.toMatchObject({ reason: 'wrong-digest' })
  proved.resolve()
  expect(await reading).toBe(0)
  const whole = { range: undefined, pauseMs: 0, pieceBytes: MIB, stopAt: Infinity }
  expectSame(await readAll(content, whole), bytes)
  await content.close()
}, 20_000)

test('a slow reader is not overtaken because of a faster one that has left', async () => {
  const bytes = blob(20 * MIB)
  const one = upstream(() => bytes)
  const download = begin(open(), digestOf(bytes), [one], bytes.length)
  const slow = download.ready.then(() => download.read())
  const content = await slow
  content.plan(undefined)
  await content.wait(0, signal)
  const start = await content.read(Buffer.alloc(64 * KIB), 0)
  const fast = await read(download, { stopAt: 15 * MIB + 768 * KIB })
  await fast.done
  await sleep(1500) // its own pace: longer than anybody waits for a reader that holds up others
  const rest = { range: { start, end: Infinity }, pauseMs: 0, pieceBytes: MIB, stopAt: Infinity }
  expectSame(await readAll(content, rest), bytes.subarray(start))
  await content.close()
  expect(one.asked).toHaveLength(1)
}, 20_000)

test('readers that wait for a direct read do not hold up one that the shared read can serve', async () => {
  const bytes = blob(40 * MIB)
  const one = upstream(() => bytes)
  const downloads = open({ fetch: { maxConnections: 2 } })
  const download = begin(downloads, digestOf(bytes), [one], bytes.length)
  const part = await read(download, { range: { start: 4 * MIB, end: 24 * MIB }, pauseMs: 25 })
  await expect.poll(() => one.running).toBe(1)
  const waiting = await read(download, { range: { start: 30 * MIB, end: 31 * MIB } })
  const whole = await read(download, { stopAt: MIB })
  await whole.done
  expect(one.sent).toBeLessThan(15 * MIB)
  await part.done
  await waiting.done
}, 20_000)
