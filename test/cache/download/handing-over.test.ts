// Downloads that run when another server gets the directory: who reads is served to the end, and the other
// has what was there at once. Two stores on one directory stand for two processes.
import { stat } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { DownloadObserver } from '../../../src/cache/download/options.ts'
import { Downloads } from '../../../src/cache/download/downloads.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { openStore, type Store } from '../../../src/store/store.ts'
import { filesBelow } from '../../support/cache-files.ts'
import { type TemporaryDirectory, temporaryDirectory } from '../../support/temporary-directory.ts'
import { until } from '../../support/until.ts'
import { begin, blob, MIB, read, upstream, type UpstreamOptions } from '../bypass/bypass-fixture.ts'

const SLOW = { delayMs: 1 } satisfies UpstreamOptions
const bytes = blob(24 * MIB)
const digest = digestOf(bytes)

let directory: TemporaryDirectory
/** What was reported of the disk. */
let troubles: string[]
let servers: Server[]

interface Server {
  readonly store: Store
  readonly downloads: Downloads
}

const observer: DownloadObserver = {
  downloadStarted: () => {},
  downloadEnded: () => {},
  readersChanged: () => {},
  verificationFailed: () => {},
  sourceFailed: () => {},
  storeError: (operation, error) => troubles.push(`${operation}: ${String(error)}`),
}

beforeEach(async () => {
  directory = await temporaryDirectory()
  troubles = []
  servers = []
})

afterEach(async () => {
  for (const server of servers) await end(server)
  await directory.remove()
})

async function start(): Promise<Server> {
  const store = await openStore({ directory: directory.path })
  const downloads = new Downloads({
    observer,
    retryDelayMs: 1,
    createIngest: (wanted) => store.blobs.ingest(wanted),
    fetch: { idleMs: 30 },
  })
  const server = { store, downloads }
  servers.push(server)
  return server
}

async function end({ downloads, store }: Server): Promise<void> {
  await downloads.stop()
  await store.close()
}

/** Every file, with what a write would change. */
async function seen(): Promise<string[]> {
  const lines: string[] = []
  for (const path of await filesBelow(directory.path)) {
    const { size, mtimeMs } = await stat(path)
    lines.push(`${path} ${size} ${mtimeMs}`)
  }
  return lines.toSorted()
}

async function journals(): Promise<string[]> {
  return (await filesBelow(directory.path)).filter((path) => path.endsWith('.json'))
}

async function expectKept({ store }: Server): Promise<void> {
  expect(await store.blobs.stat(digest)).toEqual({ size: bytes.length })
  expect(await store.blobs.verify(digest)).toBe('good')
  expect(await filesBelow(directory.join('ingest'))).toEqual([])
}

describe('a download that is handed over', () => {
  test.each(['before', 'after'])(
    'feeds its readers to the end, and the next server fetches only the rest (the old one ends %s the blob is kept)',
    async (when) => {
      const [old, source] = [await start(), upstream(() => bytes, SLOW)]
      const download = begin(old.downloads, digest, [source], bytes.length)
      const whole = await read(download, { pauseMs: 1 })
      const range = { start: 20 * MIB, end: 22 * MIB }
      const part = await read(download, { range, pauseMs: 5 })
      await until(() => source.sent > 10 * MIB)
      expect(old.downloads.canHandOver).toBe(true)
      expect(await old.downloads.handOver()).toBe(1)
      const next = await start()
      const another = upstream(() => bytes, when === 'before' ? SLOW : {})
      const again = begin(next.downloads, digest, [another], bytes.length)
      const reading = await read(again)
      if (when === 'after') await again.ended
      expect((await whole.done).equals(bytes)).toBe(true)
      expect((await part.done).equals(bytes.subarray(range.start, range.end))).toBe(true)
      await end(old)
      expect((await reading.done).equals(bytes)).toBe(true)
      await again.ended
      expect(another.sent).toBeLessThan(15 * MIB)
      await expectKept(next)
      expect(troubles).toEqual([])
    },
  )

  test('writes nothing more, and no other can start', async () => {
    const [old, source] = [await start(), upstream(() => bytes, SLOW)]
    const { done } = await read(begin(old.downloads, digest, [source], bytes.length))
    await until(() => source.sent > 5 * MIB)
    await old.downloads.handOver()
    const before = await seen()
    expect((await done).equals(bytes)).toBe(true)
    expect(() => begin(old.downloads, digestOf(Buffer.from('other')), [source])).toThrow(
      /shutting down/,
    )
    await old.downloads.checkpoint()
    await end(old)
    expect(await seen()).toEqual(before)
  })

  test('notes nothing where the directory already belongs to another server', async () => {
    const [old, source] = [await start(), upstream(() => bytes, SLOW)]
    const { done } = await read(begin(old.downloads, digest, [source], bytes.length))
    await until(() => source.sent > 5 * MIB)
    await old.downloads.handOver({ note: false })
    expect(await journals()).toEqual([])
    expect((await done).equals(bytes)).toBe(true)
    await end(old)
    expect(await journals()).toEqual([])
  })

  test('is fetched again without a file where its bytes prove wrong', async () => {
    const wrong = Buffer.from(bytes)
    wrong[23 * MIB]! ^= 1
    const source = upstream((nth) => (nth === 0 ? wrong : bytes), { ...SLOW, ranged: false })
    const [old, good] = [await start(), upstream(() => bytes, { ...SLOW, id: 'good' })]
    const download = begin(old.downloads, digest, [source, good], bytes.length)
    const part = await read(download, { range: { start: 22 * MIB, end: 24 * MIB } })
    const { done } = await read(download)
    await until(() => source.sent > 5 * MIB)
    await old.downloads.handOver()
    const before = await filesBelow(directory.path)
    await Promise.allSettled([done, part.done])
    await end(old)
    expect(await filesBelow(directory.path)).toEqual(before)
  })

  test('that broke off before is released at once, though a reader still holds its file', async () => {
    const source = upstream(() => bytes, { cutAfter: (nth) => (nth === 0 ? 12 * MIB : 0) })
    const [old] = [await start()]
    const download = begin(old.downloads, digest, [source], bytes.length)
    const slow = await read(download, { pauseMs: 20 })
    await download.ended
    expect(old.downloads.isWriting).toBe(true)
    await old.downloads.handOver()
    const next = await start()
    const another = upstream(() => bytes)
    const again = begin(next.downloads, digest, [another], bytes.length)
    expect((await (await read(again)).done).equals(bytes)).toBe(true)
    expect(another.sent).toBeLessThan(14 * MIB)
    await expect(slow.done).rejects.toThrow()
    await end(old)
    await again.ended
    await expectKept(next)
  })

  test('at any moment costs no reader a byte and leaves nothing wrong for the next server', async () => {
    for (let round = 0; round < 6; round++) {
      const ranged = round % 3 > 0
      const [old, source] = [await start(), upstream(() => bytes, { ...SLOW, ranged })]
      const download = begin(old.downloads, digest, [source], bytes.length)
      const ranges = Array.from({ length: 3 }, () => {
        const at = Math.floor(Math.random() * 20 * MIB)
        return { start: at, end: at + Math.floor(Math.random() * 4 * MIB) + 1 }
      })
      const readings = [
        { range: { start: 0, end: bytes.length }, reading: await read(download) },
        ...(await Promise.all(
          ranges.map(async (range) => ({
            range,
            reading: await read(download, { range, pauseMs: 2 }),
          })),
        )),
      ]
      await sleep(Math.random() * 250)
      await until(() => old.downloads.canHandOver)
      await old.downloads.handOver()
      const next = await start()
      const again = begin(next.downloads, digest, [upstream(() => bytes)], bytes.length)
      expect((await (await read(again)).done).equals(bytes)).toBe(true)
      for (const { range, reading } of readings) {
        const got = await reading.done
        expect(got.equals(bytes.subarray(range.start, range.end))).toBe(true)
      }
      await Promise.all([end(old), again.ended])
      await expectKept(next)
      await next.store.blobs.remove(digest)
      await end(next)
    }
    expect(troubles).toEqual([])
  }, 60_000)
})
