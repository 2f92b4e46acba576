// The memory of all blobs that bypass the disk is one hard bound, whatever their number, and nobody waits
// for ever behind a reader that has stopped.
import { afterEach, describe, expect, test } from 'vitest'
import { Downloads } from '../../../src/cache/download/downloads.ts'
import { MemoryBudget } from '../../../src/cache/bypass/memory-budget.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { begin, blob, createOn, MIB, read, SILENT, upstream } from './bypass-fixture.ts'

const signal = new AbortController().signal
const createIngest = createOn({ directory: '/nowhere', room: -1 })

let downloads: Downloads | undefined

afterEach(() => downloads?.stop())

/** A blob of its own for each number. */
function numbered(size: number, number: number): Buffer {
  const bytes = blob(size)
  bytes.writeUInt32LE(number + 1)
  return bytes
}

describe('a budget', () => {
  const holder = { reclaim: () => {} }

  test('gives what is free at once, and never more than there is', async () => {
    const memory = new MemoryBudget(100)
    await memory.reserve(holder, 60, signal)
    expect(memory.take(41)).toBe(false)
    expect(memory.take(40)).toBe(true)
    expect(memory.take(1)).toBe(false)
    expect([memory.usedBytes, memory.peakBytes]).toEqual([100, 100])
    await expect(memory.reserve(holder, 101, signal)).rejects.toThrow(RangeError)
  })

  test('serves those that wait in order, and nobody before them', async () => {
    const memory = new MemoryBudget(100)
    const order: string[] = []
    expect(memory.take(90)).toBe(true)
    const large = memory.reserve(holder, 80, signal).then(() => order.push('large'))
    const small = memory.reserve(holder, 20, signal).then(() => order.push('small'))
    expect(memory.isShort).toBe(true)
    expect(memory.take(5)).toBe(false)
    memory.release(90)
    await Promise.all([large, small])
    expect(order).toEqual(['large', 'small'])
    expect(memory.isShort).toBe(false)
  })

  test('skips those that gave up waiting', async () => {
    const memory = new MemoryBudget(100)
    expect(memory.take(50)).toBe(true)
    const leaving = new AbortController()
    const large = memory.reserve(holder, 80, leaving.signal)
    const small = memory.reserve(holder, 50, signal)
    leaving.abort(new Error('gave up'))
    await expect(large).rejects.toThrow('gave up')
    await small
    expect(memory.usedBytes).toBe(100)
  })

  test('asks holders for memory while somebody waits', async () => {
    const memory = new MemoryBudget(100)
    const generous = { reclaim: () => memory.release(100) }
    await memory.reserve(generous, 100, signal)
    await memory.reserve(holder, 30, signal)
    expect(memory.usedBytes).toBe(30)
  })
})

test.each([true, false])(
  'fifty readers that leave at once leave nothing behind, ranges honoured: %s',
  async (ranged) => {
    const bytes = blob(40 * MIB)
    const memory = new MemoryBudget()
    downloads = new Downloads({ observer: SILENT, createIngest, memory, fetch: { idleMs: 30 } })
    const one = upstream(() => bytes, { ranged, delayMs: 1 })
    const download = begin(downloads, digestOf(bytes), [one], bytes.length)
    const readings = await Promise.all(
      Array.from({ length: 50 }, (_, each) => {
        const range = each % 2 === 0 ? undefined : { start: each * 512 * 1024, end: 40 * MIB }
        return read(download, { range, pauseMs: 1 })
      }),
    )
    await expect.poll(() => one.sent, { timeout: 10_000 }).toBeGreaterThan(8 * MIB)
    await Promise.all(readings.map(({ content }) => content.close()))
    await download.ended
    await expect.poll(() => one.running).toBe(0)
    expect(memory.usedBytes).toBe(0)
  },
)

test.each([true, false])(
  'two hundred blobs at once stay within the bound, ranges honoured: %s',
  { timeout: 120_000 },
  async (ranged) => {
    const memory = new MemoryBudget(64 * MIB)
    downloads = new Downloads({ observer: SILENT, createIngest, memory, fetch: { idleMs: 50 } })
    const size = MIB + 300_077
    const blobs = Array.from({ length: 200 }, (_, each) => {
      const content = numbered(size, each)
      const sources = [upstream(() => content, { ranged })]
      return { content, download: begin(downloads!, digestOf(content), sources, size) }
    })
    await Promise.all(
      blobs.map(async ({ download, content }, each) => {
        const range = { start: MIB + 5, end: MIB + 200_000 }
        const readings = [
          await read(download, { pauseMs: each % 2 }),
          await read(download, { range }),
        ]
        const [whole, part] = await Promise.all(readings.map(({ done }) => done))
        expect(whole?.equals(content)).toBe(true)
        expect(part?.equals(content.subarray(range.start, range.end))).toBe(true)
      }),
    )
    expect(memory.peakBytes).toBeLessThanOrEqual(64 * MIB)
    expect(memory.peakBytes).toBeGreaterThan(32 * MIB)
    await Promise.all(blobs.map(({ download }) => download.ended))
    expect(memory.usedBytes).toBe(0)
  },
)

test('readers that never read keep no memory from those that do, and can go on later', async () => {
  const memory = new MemoryBudget(8 * MIB)
  downloads = new Downloads({ observer: SILENT, createIngest, memory })
  const size = 4 * MIB
  const start = (number: number) => {
    const content = numbered(size, number)
    return {
      content,
      download: begin(downloads!, digestOf(content), [upstream(() => content)], size),
    }
  }
  const stopped = Array.from({ length: 8 }, (_, each) => start(each))
  const contents = await Promise.all(
    stopped.map(async ({ download }) => {
      await download.ready
      const content = download.read()
      content.plan(undefined)
      const into = Buffer.alloc(1000)
      void content.wait(0, signal).then(() => content.read(into, 0))
      return { content, into }
    }),
  )
  for (let each = 8; each < 20; each++) {
    const { content, download } = start(each)
    const reading = await read(download)
    expect((await reading.done).equals(content)).toBe(true)
  }
  await expect.poll(() => contents.every(({ into }) => into.some((byte) => byte !== 0))).toBe(true)
  for (const [each, { content, into }] of contents.entries()) {
    const parts = [into]
    for (let at = into.length; at < size;) {
      await content.wait(at, signal)
      const piece = Buffer.alloc(256 * 1024)
      const count = await content.read(piece, at)
      parts.push(piece.subarray(0, count))
      at += count
    }
    expect(Buffer.concat(parts).equals(stopped[each]!.content)).toBe(true)
    await content.close()
  }
  expect(memory.peakBytes).toBeLessThanOrEqual(8 * MIB)
}, 30_000)
