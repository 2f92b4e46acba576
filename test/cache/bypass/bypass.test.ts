// Blobs that cannot be kept, and those who read them: each gets every byte, from wherever it begins, at
// its own pace. What else may fail meanwhile: passing-faults.test.ts.
import { describe, expect, test } from 'vitest'
import { DEFAULT_FETCH } from '../../../src/cache/download/downloads.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import {
  begin,
  blob,
  expectSame,
  MIB,
  MAX_BYTES,
  bypassScene,
  read,
  readAll,
  type Reading,
  upstream,
} from './bypass-fixture.ts'

const signal = new AbortController().signal
const { events, kept, memory, open } = bypassScene()

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
    // first one seems slow, as many as there may be connections are asked before that. One more is
    // made when the disk is full.
    expect(one.asked.length).toBeLessThanOrEqual(2 + DEFAULT_FETCH.connections)
    expect(memory().peakBytes).toBeLessThanOrEqual(MAX_BYTES)
  })

  test('a part far away is read beside the whole', async () => {
    const bytes = blob(40 * MIB)
    const one = upstream(() => bytes, { delayMs: 1 })
    const download = begin(open({ room }), digestOf(bytes), [one], bytes.length)
    const whole = await read(download)
    const range = { start: 33 * MIB + 3, end: 34 * MIB + 5 }
    const part = await read(download, { range })
    expectSame(await part.done, bytes.subarray(range.start, range.end))
    expectSame(await whole.done, bytes)
  })

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
  const bytes = blob(24 * MIB + 5)
  const one = upstream(() => bytes)
  const download = begin(open({ room: 3 * MIB }), digestOf(bytes), [one], bytes.length)
  const readings: Reading[] = []
  for (let each = 0; each < 20; each++) {
    readings.push(await read(download, { pauseMs: each === 0 ? 0 : 1 + (each % 5) * 2 }))
  }
  for (const { done } of readings) expectSame(await done, bytes)
  await download.ended
  expect(memory().peakBytes).toBeLessThanOrEqual(MAX_BYTES)
  expect(one.mostRunning).toBeLessThanOrEqual(4 + 4)
}, 60_000)

test.each([true, false])(
  'the rest of a blob is verified with what was sent before (ranges honoured: %s)',
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
})

test('a late reader gets the beginning by requests of its own', async () => {
  const bytes = blob(48 * MIB)
  const one = upstream(() => bytes)
  const download = begin(open(), digestOf(bytes), [one], bytes.length)
  const first = await read(download, { pauseMs: 5 })
  await expect.poll(() => one.sent, { timeout: 10_000 }).toBeGreaterThan(24 * MIB)
  const late = await read(download)
  expectSame(await late.done, bytes)
  expectSame(await first.done, bytes)
})

test('a late reader gets what lies around a part that was written before the disk was full', async () => {
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
})

test('a late reader gets the beginning from a second response where ranges are ignored', async () => {
  const bytes = blob(40 * MIB)
  const one = upstream(() => bytes, { ranged: false })
  const download = begin(open(), digestOf(bytes), [one], bytes.length)
  const first = await read(download, { pauseMs: 5 })
  await expect.poll(() => one.sent, { timeout: 10_000 }).toBeGreaterThan(20 * MIB)
  const late = await read(download, { pauseMs: 1 })
  expectSame(await late.done, bytes)
  expectSame(await first.done, bytes)
  expect(one.asked.length).toBeLessThanOrEqual(2 + DEFAULT_FETCH.connections)
  expect(memory().peakBytes).toBeLessThanOrEqual(MAX_BYTES)
})

test('a reader that stands still is overtaken where ranges are honoured', async () => {
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
  expect(memory().peakBytes).toBeLessThanOrEqual(MAX_BYTES)
})
