// Readers of blobs that cannot be kept, where things happen in an unlucky order.
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
