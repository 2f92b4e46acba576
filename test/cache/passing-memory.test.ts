// The memory of all blobs that pass through at once is bounded, whatever their number.
import { afterEach, expect, test } from 'vitest'
import type { DownloadObserver } from '../../src/cache/download-options.ts'
import { Downloads } from '../../src/cache/downloads.ts'
import { PassingMemory } from '../../src/cache/passing-memory.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { begin, blob, createOn, MIB, read, upstream } from './passing-fixture.ts'

const ignored = () => {}
const observer: DownloadObserver = {
  downloadStarted: ignored,
  downloadEnded: ignored,
  readersChanged: ignored,
  verificationFailed: ignored,
  sourceFailed: ignored,
  storeError: ignored,
}

let downloads: Downloads | undefined

afterEach(() => downloads?.stop())

test('what there is is shared out among those that pass through, also when one leaves twice', () => {
  const memory = new PassingMemory(120)
  const one = memory.share()
  expect(one.bytes).toBe(120)
  const [two, three] = [memory.share(), memory.share()]
  expect([one.bytes, two.bytes, three.bytes]).toEqual([40, 40, 40])
  two.leave()
  two.leave()
  expect([one.bytes, three.bytes]).toEqual([60, 60])
})

test.each([true, false])(
  'fifty readers that leave at once leave nothing behind, ranges honoured: %s',
  async (ranged) => {
    const bytes = blob(40 * MIB)
    const memory = new PassingMemory(100)
    const createIngest = createOn({ directory: '/nowhere', room: -1 })
    downloads = new Downloads({ observer, createIngest, memory, fetch: { idleMs: 30 } })
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
    expect(memory.share().bytes).toBe(100)
  },
)

test.each([true, false])(
  'thirty blobs at once take no more than there is, ranges honoured: %s',
  { timeout: 30_000 },
  async (ranged) => {
    const createIngest = createOn({ directory: '/nowhere', room: -1 })
    const memory = new PassingMemory(200 * MIB)
    downloads = new Downloads({ observer, createIngest, memory, fetch: { idleMs: 50 } })
    const bytes = blob(12 * MIB)
    const passing = Array.from({ length: 30 }, (_, each) => {
      bytes.writeUInt32LE(each)
      const content = Buffer.from(bytes)
      const sources = [upstream(() => content, { ranged })]
      const download = begin(downloads!, digestOf(content), sources, content.length)
      return { download, content }
    })
    let mostBytes = 0
    const look = setInterval(() => {
      const taken = passing.reduce((sum, { download }) => sum + (download.memory?.bytes ?? 0), 0)
      mostBytes = Math.max(mostBytes, taken)
    }, 5)
    await Promise.all(
      passing.map(async ({ download, content }, each) => {
        const far = { range: { start: 8 * MIB, end: 11 * MIB }, pauseMs: 10 }
        const readings = [await read(download, { pauseMs: each % 10 }), await read(download, far)]
        const [whole, part] = await Promise.all(readings.map(({ done }) => done))
        expect(whole?.equals(content)).toBe(true)
        expect(part?.equals(content.subarray(far.range.start, far.range.end))).toBe(true)
      }),
    )
    clearInterval(look)
    // At every edge of its zones a blob may take a block more.
    expect(mostBytes).toBeLessThan(200 * MIB + 30 * 4 * 0.25 * MIB)
    expect(mostBytes).toBeGreaterThan(50 * MIB)
    await Promise.all(passing.map(({ download }) => download.ended))
    expect(memory.share().bytes).toBe(200 * MIB)
  },
)
