// Blobs that cannot be kept: the disk fails somewhere on the way, and readers get every byte.
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { DownloadObserver } from '../../src/cache/download-options.ts'
import { DEFAULT_FETCH, Downloads, type DownloadsOptions } from '../../src/cache/downloads.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import {
  begin,
  blob,
  createOn,
  MIB,
  MOST_BYTES,
  read,
  readAll,
  type Reading,
  upstream,
} from './passing-fixture.ts'

const KIB = 1024
const signal = new AbortController().signal

let directory: string
let events: string[]
let kept: Digest[]
let running: Downloads[]

const observer: DownloadObserver = {
  downloadStarted: () => {},
  downloadEnded: (outcome) => events.push(outcome),
  readersChanged: () => {},
  verificationFailed: (endpoint) => events.push(`wrong bytes from ${endpoint}`),
  sourceFailed: (error) => events.push(`${error.endpoint} ${error.reason}`),
  storeError: (operation, error) =>
    events.push(`${operation}: ${error instanceof Error ? error.message : String(error)}`),
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'chandlery-'))
  events = []
  kept = []
  running = []
})

afterEach(async () => {
  for (const downloads of running) await downloads.stop()
  expect(await readdir(directory)).toEqual([])
  await rm(directory, { recursive: true, force: true })
})

function ingestsOn(room: number): DownloadsOptions['createIngest'] {
  return createOn({ directory, room, kept: (digest) => kept.push(digest) })
}

function open(options: Partial<DownloadsOptions> & { room?: number } = {}): Downloads {
  const { room = -1, fetch, ...rest } = options
  const downloads = new Downloads({
    observer,
    retryDelayMs: 1,
    createIngest: ingestsOn(room),
    fetch: { idleMs: 30, ...fetch },
    ...rest,
  })
  running.push(downloads)
  return downloads
}

function expectSame(got: Buffer, wanted: Buffer): void {
  expect(got.length).toBe(wanted.length)
  expect(got.equals(wanted)).toBe(true)
}

describe.each([-1, 0, 3 * MIB + 12_345])('on a disk with room for %i bytes', (room) => {
  test('one reader gets a blob larger than the window, from one request', async () => {
    const bytes = blob(40 * MIB + 77)
    const one = upstream(() => bytes)
    const download = begin(open({ room }), digestOf(bytes), [one], bytes.length)
    const reading = await read(download)
    expectSame(await reading.done, bytes)
    await download.ended
    expect(events).toContain('write: no space left on device')
    expect(events.at(-1)).toBe('not-kept')
    expect(kept).toEqual([])
    expect(one.sent).toBeLessThan(bytes.length * 1.1)
  })

  test('where ranges are ignored the slowest reader sets the pace', async () => {
    const bytes = blob(40 * MIB + 1)
    const one = upstream(() => bytes, { ranged: false })
    const download = begin(open({ room }), digestOf(bytes), [one], bytes.length)
    const slow = await read(download, { pauseMs: 4 })
    const fast = await read(download)
    expectSame(await fast.done, bytes)
    expectSame(await slow.done, bytes)
    await download.ended
    // That they are ignored shows when a request for a part is answered with everything: where the
    // first one seems slow, as many as there may be connections are asked before that.
    expect(one.asked.length).toBeLessThanOrEqual(1 + DEFAULT_FETCH.connections)
    expect(download.memory?.mostBytes).toBeLessThan(MOST_BYTES)
  }, 20_000)

  test('a part far away is read beside the whole', async () => {
    const bytes = blob(60 * MIB)
    const one = upstream(() => bytes, { delayMs: 1 })
    const download = begin(open({ room }), digestOf(bytes), [one], bytes.length)
    const whole = await read(download)
    const range = { start: 50 * MIB + 3, end: 51 * MIB + 5 }
    const part = await read(download, { range })
    expectSame(await part.done, bytes.subarray(range.start, range.end))
    expectSame(await whole.done, bytes)
  }, 20_000)

  test('only what is read is fetched when a part is all that is wanted', async () => {
    const bytes = blob(60 * MIB)
    const one = upstream(() => bytes)
    const download = begin(open({ room }), digestOf(bytes), [one], bytes.length)
    const range = { start: 30 * MIB + 3, end: 31 * MIB }
    const part = await read(download, { range })
    expectSame(await part.done, bytes.subarray(range.start, range.end))
    await download.ended
    expect(events.at(-1)).toBe('not-kept')
    if (room < 0) expect(one.sent).toBeLessThan(2 * MIB)
  })

  test('a blob of unknown size passes through', async () => {
    const bytes = blob(20 * MIB + 9)
    const one = upstream(() => bytes, { ranged: false, size: false })
    const download = begin(open({ room }), digestOf(bytes), [one])
    expectSame(await (await read(download)).done, bytes)
  })
})

test('twenty readers at different speeds get all of it, within bounds', async () => {
  const bytes = blob(32 * MIB + 5)
  const one = upstream(() => bytes)
  const download = begin(open({ room: 3 * MIB }), digestOf(bytes), [one], bytes.length)
  const readings: Reading[] = []
  for (let each = 0; each < 20; each++) {
    readings.push(await read(download, { pauseMs: each === 0 ? 0 : 1 + (each % 5) * 3 }))
  }
  for (const { done } of readings) expectSame(await done, bytes)
  await download.ended
  expect(download.memory?.mostBytes).toBeLessThan(MOST_BYTES)
  expect(one.mostRunning).toBeLessThanOrEqual(4 + 4)
}, 20_000)

describe.each([true, false])('a size that is wrong, ranges honoured: %s', (ranged) => {
  const bytes = blob(20 * MIB)

  test.each([
    ['too small', -1],
    ['too small by far', -10 * MIB],
    ['too large', 1],
    ['too large by far', 10 * MIB],
  ])('%s, ends the download, whether the upstream says another or none', async (_how, by) => {
    for (const size of [true, false]) {
      const one = upstream(() => bytes, { ranged, size })
      const download = begin(open(), digestOf(bytes), [one], bytes.length + by)
      const range = { start: 15 * MIB, end: 16 * MIB }
      const readings = [await read(download), await read(download, { range })]
      await expect(readings[0]!.done).rejects.toThrow()
      await readings[1]!.done.catch(() => {})
      await download.ended
      expect(one.asked.length).toBeLessThan(40)
    }
  })
})

test.each([true, false])(
  'the rest of a whole is verified with what was given elsewhere: %s',
  async (ranged) => {
    const bytes = blob(30 * MIB)
    const download = begin(
      open(),
      digestOf(bytes),
      [upstream(() => bytes, { ranged })],
      bytes.length,
    )
    await download.ready
    const content = download.read()
    content.plan(undefined)
    const parts: Buffer[] = []
    for (let at = 20 * MIB; at < bytes.length;) {
      await content.wait(at, signal)
      const into = Buffer.alloc(MIB)
      const count = await content.read(into, at)
      parts.push(into.subarray(0, count))
      at += count
    }
    await content.close()
    expectSame(Buffer.concat(parts), bytes.subarray(20 * MIB))
  },
)

test('a reader that leaves changes nothing for the others', async () => {
  const bytes = blob(48 * MIB)
  const one = upstream(() => bytes)
  const download = begin(open(), digestOf(bytes), [one], bytes.length)
  const leader = await read(download, { stopAt: 40 * MIB })
  const slow = await read(download, { pauseMs: 4 })
  expect((await leader.done).length).toBe(40 * MIB)
  expectSame(await slow.done, bytes)
}, 20_000)

test('who comes late gets the beginning by requests of its own', async () => {
  const bytes = blob(48 * MIB)
  const one = upstream(() => bytes)
  const download = begin(open(), digestOf(bytes), [one], bytes.length)
  const first = await read(download, { pauseMs: 5 })
  await expect.poll(() => one.sent, { timeout: 10_000 }).toBeGreaterThan(24 * MIB)
  const late = await read(download)
  expectSame(await late.done, bytes)
  expectSame(await first.done, bytes)
}, 20_000)

test('who comes late gets what lies about a part that was written before the disk was full', async () => {
  const bytes = blob(40 * MIB)
  const one = upstream(() => bytes)
  const downloads = open({ room: 100_000, fetch: { idleMs: 1000 } })
  const download = begin(downloads, digestOf(bytes), [one], bytes.length)
  const range = { start: 3 * MIB + 50_000, end: 3 * MIB + 200_000 }
  const part = await read(download, { range })
  expectSame(await part.done, bytes.subarray(range.start, range.end))
  const first = await read(download, { pauseMs: 4 })
  await expect.poll(() => one.sent, { timeout: 10_000 }).toBeGreaterThan(24 * MIB)
  const late = await read(download)
  expectSame(await late.done, bytes)
  expectSame(await first.done, bytes)
}, 20_000)

test('who comes late where ranges are ignored gets the beginning from a second answer', async () => {
  const bytes = blob(40 * MIB)
  const one = upstream(() => bytes, { ranged: false })
  const download = begin(open(), digestOf(bytes), [one], bytes.length)
  const first = await read(download, { pauseMs: 5 })
  await expect.poll(() => one.sent, { timeout: 10_000 }).toBeGreaterThan(20 * MIB)
  const late = await read(download, { pauseMs: 1 })
  expectSame(await late.done, bytes)
  expectSame(await first.done, bytes)
  expect(one.asked.length).toBeLessThanOrEqual(2 + DEFAULT_FETCH.connections)
  expect(download.memory?.mostBytes).toBeLessThan(MOST_BYTES)
}, 20_000)

test('a reader that stands still is passed where ranges are honoured', async () => {
  const bytes = blob(60 * MIB)
  const one = upstream(() => bytes)
  const download = begin(open(), digestOf(bytes), [one], bytes.length)
  await download.ready
  const still = download.read()
  still.plan(undefined)
  await still.wait(0, signal)
  expectSame(await (await read(download)).done, bytes)
  const done = readAll(still, { range: undefined, pauseMs: 0, pieceBytes: MIB, stopAt: Infinity })
  expectSame(await done, bytes)
  await still.close()
  expect(download.memory?.mostBytes).toBeLessThan(MOST_BYTES)
}, 20_000)

test('the whole is held back until its digest is right, and is cut when it is wrong', async () => {
  const bytes = blob(30 * MIB)
  const wrong = Buffer.from(bytes)
  wrong[20 * MIB]! ^= 1
  const one = upstream(() => wrong)
  const download = begin(open(), digestOf(bytes), [one], bytes.length)
  await download.ready
  const content = download.read()
  content.plan(undefined)
  let at = 0
  const failed = async () => {
    for (;;) {
      await content.wait(at, signal)
      at += await content.read(Buffer.alloc(MIB), at)
    }
  }
  await expect(failed()).rejects.toMatchObject({ reason: 'wrong-digest' })
  expect(at).toBeLessThanOrEqual(bytes.length - 64 * KIB)
  await content.close()
  await download.ended
  expect(events).toContain('wrong bytes from one')
})

test('after wrong bytes a good source is read to its end before anybody is given a part', async () => {
  const bytes = blob(30 * MIB)
  const wrong = Buffer.from(bytes)
  wrong[5]! ^= 1
  const downloads = open()
  const liar = upstream(() => wrong, { id: 'liar' })
  const good = upstream(() => bytes, { id: 'good' })
  const bad = begin(downloads, digestOf(bytes), [liar], bytes.length)
  await expect((await read(bad)).done).rejects.toThrow()
  await bad.ended
  const again = begin(downloads, digestOf(bytes), [good], bytes.length)
  const range = { start: 5, end: 20 * MIB }
  const part = await read(again, { range })
  const content = again.read()
  content.plan([range])
  await content.wait(range.start, signal)
  expect(good.sent).toBeGreaterThanOrEqual(bytes.length)
  await content.close()
  expectSame(await part.done, bytes.subarray(range.start, range.end))
  expect(good.sent).toBeLessThan(1.8 * bytes.length)
  const downloaded = begin(downloads, digestOf(bytes), [good], bytes.length)
  expectSame(await (await read(downloaded)).done, bytes)
}, 20_000)

test('what is fetched again and differs from what was hashed is not given', async () => {
  const bytes = blob(48 * MIB)
  const wrong = Buffer.from(bytes)
  wrong[2 * MIB]! ^= 1
  let lies = false
  const one = upstream(() => (lies ? wrong : bytes))
  const download = begin(open(), digestOf(bytes), [one], bytes.length)
  const first = await read(download, { pauseMs: 5 })
  await expect.poll(() => one.sent, { timeout: 10_000 }).toBeGreaterThan(24 * MIB)
  lies = true
  const late = await read(download)
  await expect(late.done).rejects.toMatchObject({ reason: 'wrong-digest' })
  await first.done.catch(() => {})
  expect(events).toContain('one wrong-digest')
}, 20_000)

test('a blob that would not fit is not begun on the disk, also where its size is learned late', async () => {
  const bytes = blob(20 * MIB)
  const asked: number[] = []
  const hasRoom = async (size: number) => {
    asked.push(size)
    return size <= 10 * MIB
  }
  for (const size of [bytes.length, undefined]) {
    const downloads = open({ room: Infinity, hasRoom })
    const download = begin(downloads, digestOf(bytes), [upstream(() => bytes)], size)
    expectSame(await (await read(download)).done, bytes)
    await download.ended
  }
  expect(asked).toEqual([bytes.length, bytes.length])
  expect(events.filter((event) => event === 'not-kept')).toHaveLength(2)
  expect(kept).toEqual([])
})

test('what others are about to write counts as taken', async () => {
  const [a, b] = [blob(8 * MIB, 1), blob(8 * MIB, 2)]
  const downloads = open({ room: Infinity, hasRoom: async (size) => size <= 12 * MIB })
  const one = begin(downloads, digestOf(a), [upstream(() => a, { delayMs: 2 })], a.length)
  const first = await read(one)
  const two = begin(downloads, digestOf(b), [upstream(() => b)], b.length)
  const second = await read(two)
  expectSame(await second.done, b)
  expectSame(await first.done, a)
  await Promise.all([one.ended, two.ended])
  expect(kept).toEqual([digestOf(a)])
})

describe.each(['when more is written', 'before it begins'])('a disk that is full %s', (when) => {
  const bytes = blob(40 * MIB)

  /** What an earlier download left: the beginning, and a part further on. */
  function resuming(left: (nth: number) => Buffer): Partial<DownloadsOptions> {
    let asked = 0
    return {
      hasRoom: async () => when !== 'before it begins',
      createIngest: async (digest) => {
        const ingest = await ingestsOn(9 * MIB)(digest)
        const content = left(asked)
        asked += 1
        await ingest.write(0, content.subarray(0, 5 * MIB + 77))
        await ingest.write(9 * MIB + 5, content.subarray(9 * MIB + 5, 11 * MIB))
        return ingest
      },
    }
  }

  test('costs nothing of what an earlier download left', async () => {
    const one = upstream(() => bytes)
    const downloads = open(resuming(() => bytes))
    const download = begin(downloads, digestOf(bytes), [one], bytes.length)
    const range = { start: 8 * MIB, end: 12 * MIB }
    const [whole, part] = [await read(download), await read(download, { range })]
    expectSame(await part.done, bytes.subarray(range.start, range.end))
    expectSame(await whole.done, bytes)
    expect(one.sent).toBeLessThan(36 * MIB)
  })

  test('makes nobody trust what an earlier download left, if that is wrong', async () => {
    const wrong = Buffer.from(bytes)
    wrong[3 * MIB]! ^= 1
    const one = upstream(() => bytes)
    const downloads = open(resuming((nth) => (nth === 0 ? wrong : bytes)))
    const download = begin(downloads, digestOf(bytes), [one], bytes.length)
    await expect((await read(download)).done).rejects.toMatchObject({ reason: 'wrong-digest' })
    const again = begin(downloads, digestOf(bytes), [one], bytes.length)
    expectSame(await (await read(again)).done, bytes)
    expect(events).not.toContain('wrong bytes from one')
  })
})

test('each download tries the disk anew', async () => {
  const bytes = blob(20 * MIB)
  let room = 5 * MIB
  const downloads = open({ createIngest: (digest) => ingestsOn(room)(digest) })
  const full = begin(downloads, digestOf(bytes), [upstream(() => bytes)], bytes.length)
  expectSame(await (await read(full)).done, bytes)
  room = Infinity
  const free = begin(downloads, digestOf(bytes), [upstream(() => bytes)], bytes.length)
  expect(free).not.toBe(full)
  expectSame(await (await read(free)).done, bytes)
  await free.ended
  expect(kept).toEqual([digestOf(bytes)])
})

function ioError(): Promise<never> {
  return Promise.reject(Object.assign(new Error('I/O error'), { code: 'EIO' }))
}

describe.each(['read', 'handOver', 'verify'] as const)('where a file fails in %s too', (step) => {
  const bytes = blob(20 * MIB)
  const room = { read: Infinity, verify: Infinity, handOver: 6 * MIB }[step]

  function unreadable(bytesOfRoom: number): DownloadsOptions['createIngest'] {
    return async (digest) => {
      const ingest = await ingestsOn(bytesOfRoom)(digest)
      ingest[step] = ioError
      return ingest
    }
  }

  test('parts are read all the same, and who was given some of the whole is cut', async () => {
    const downloads = open({ createIngest: unreadable(room) })
    const one = upstream(() => bytes, { delayMs: 1 })
    const download = begin(downloads, digestOf(bytes), [one], bytes.length)
    const whole = await read(download)
    const range = { start: 2 * MIB, end: 19 * MIB }
    const part = await read(download, { range, pauseMs: 1 })
    expectSame(await part.done, bytes.subarray(range.start, range.end))
    if (step === 'read') expectSame(await whole.done, bytes)
    else await expect(whole.done).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    await download.ended
    expect(kept).toEqual([])
  })

  // A read that fails after that is too late: it is kept by then.
  test.skipIf(step === 'read')('a small blob, given when it is verified, is read', async () => {
    const small = blob(MIB)
    const downloads = open({ createIngest: unreadable(step === 'handOver' ? 1000 : Infinity) })
    const download = begin(downloads, digestOf(small), [upstream(() => small)], small.length)
    const first = await read(download)
    const second = await read(download)
    expectSame(await first.done, small)
    expectSame(await second.done, small)
  })
})
