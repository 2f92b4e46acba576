// The memory of all blobs that pass through at once is bounded, whatever their number.
import * as fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import type { DownloadObserver } from '../../../src/cache/download/options.ts'
import type { Download } from '../../../src/cache/download/download.ts'
import { Downloads } from '../../../src/cache/download/downloads.ts'
import { type MemoryHolder, PassingMemory } from '../../../src/cache/bypass/memory-budget.ts'
import { LEAST_BYTES, MOST_BYTES } from '../../../src/cache/bypass/window-zones.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import type { Source } from '../../../src/upstream/face/source.ts'
import {
  begin,
  blob,
  createOn,
  MIB,
  read,
  readAll,
  type TestSource,
  upstream,
} from './passing-fixture.ts'

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

const waits = { isIdle: false, isRanged: true, now: 0 }

/** A blob that passes through; it counts what it is told. */
function holder(): MemoryHolder & { told: string[] } {
  const told: string[] = []
  return { told, granted: () => told.push('granted'), revoked: () => told.push('revoked') }
}

describe('the memory', () => {
  test('is granted in turn, and what one gives back goes to who has waited longest', () => {
    const memory = new PassingMemory(2 * LEAST_BYTES)
    const [one, two, three, four] = [holder(), holder(), holder(), holder()]
    expect([one, two, three, four].map((each) => memory.use(each, waits))).toEqual([
      LEAST_BYTES,
      LEAST_BYTES,
      0,
      0,
    ])
    memory.leave(two)
    memory.leave(two)
    expect([memory.use(four, waits), memory.use(three, waits)]).toEqual([0, LEAST_BYTES])
    memory.leave(three)
    memory.leave(one)
    memory.leave(four)
    expect(memory.bytes).toBe(0)
  })

  test('grows for who is alone, and shrinks as others come', () => {
    const memory = new PassingMemory(40 * MIB)
    const [one, two] = [holder(), holder()]
    memory.use(one, waits)
    expect(memory.use(one, waits)).toBe(MOST_BYTES)
    expect(memory.use(two, waits)).toBe(LEAST_BYTES)
    expect(memory.use(one, waits)).toBe(20 * MIB)
    memory.keep(one, 20 * MIB)
    expect(memory.use(two, waits)).toBe(20 * MIB)
    expect(memory.bytes).toBe(40 * MIB)
  })

  test('is taken back, where others wait, from who has stopped, and granted again when it goes on', () => {
    const memory = new PassingMemory(LEAST_BYTES)
    const [stopped, other] = [holder(), holder()]
    memory.use(stopped, waits)
    expect(memory.use(other, waits)).toBe(0)
    expect(memory.use(stopped, { ...waits, isIdle: true })).toBe(0)
    expect(stopped.told).toEqual(['revoked'])
    expect(memory.use(other, waits)).toBe(LEAST_BYTES)
    expect(memory.use(stopped, { ...waits, isIdle: true })).toBe(0)
    memory.leave(other)
    expect(memory.bytes).toBe(0)
    expect(memory.use(stopped, waits)).toBe(LEAST_BYTES)
  })

  test('stays with who has stopped while nobody waits', () => {
    const memory = new PassingMemory(LEAST_BYTES)
    const one = holder()
    memory.use(one, waits)
    expect(memory.use(one, { ...waits, isIdle: true, now: 100_000 })).toBe(LEAST_BYTES)
    expect(one.told).toEqual([])
  })

  test('goes round where all go on slowly, unless one would have to begin anew', () => {
    const memory = new PassingMemory(LEAST_BYTES)
    const [one, two] = [holder(), holder()]
    memory.use(one, waits)
    memory.use(two, waits)
    expect(memory.use(one, { ...waits, now: 29_999 })).toBe(LEAST_BYTES)
    expect(memory.use(one, { ...waits, isRanged: false, now: 60_000 })).toBe(LEAST_BYTES)
    expect(memory.use(one, { ...waits, now: 60_000 })).toBe(0)
    expect(memory.use(two, { ...waits, now: 60_000 })).toBe(LEAST_BYTES)
    expect(memory.use(two, { ...waits, now: 89_999 })).toBe(LEAST_BYTES)
    expect(memory.use(two, { ...waits, now: 90_000 })).toBe(0)
    expect(memory.use(one, { ...waits, now: 90_000 })).toBe(LEAST_BYTES)
  })

  test('is never granted beyond its bound, and to everybody in the end', () => {
    const step = fc.record({
      who: fc.nat(19),
      isIdle: fc.boolean(),
      isRanged: fc.boolean(),
      does: fc.constantFrom('use', 'use', 'use', 'keep', 'leave', 'retire'),
    })
    const scene = fc.record({
      steps: fc.array(step, { maxLength: 300 }),
      allMib: fc.integer({ min: 1, max: 100 }),
    })
    const property = fc.property(scene, ({ steps, allMib }) => {
      const allBytes = Math.max(allMib * MIB, LEAST_BYTES)
      const memory = new PassingMemory(allMib * MIB)
      // What each holds, as long as it obeys.
      const held = new Map<MemoryHolder, number>()
      const holders = Array.from({ length: 20 }, () => {
        const each: MemoryHolder = { granted: () => {}, revoked: () => void held.delete(each) }
        return each
      })
      const sum = () => [...held.values()].reduce((all, bytes) => all + bytes, 0)
      for (const [now, { who, does, ...use }] of steps.entries()) {
        const each = holders[who]!
        const before = held.get(each) ?? 0
        if (does === 'leave') held.delete(each)
        if (does === 'leave') memory.leave(each)
        else if (does === 'retire') memory.retire(each)
        else {
          const bytes = memory.use(each, { ...use, now: now * 1000 })
          // One that cannot drop what it has may hold more than it is told, but no more than before.
          if (bytes > 0) held.set(each, use.isRanged ? bytes : Math.max(bytes, before))
          if (does === 'keep' && bytes > 0) memory.keep(each, held.get(each)!)
        }
        expect(memory.bytes).toBeLessThanOrEqual(allBytes)
        expect(sum()).toBeLessThanOrEqual(memory.bytes)
      }
      const left = new Set(holders)
      for (let now = 1e6; left.size > 0 && now < 1e8; now += 1000) {
        for (const each of left) {
          if (memory.use(each, { isIdle: false, isRanged: true, now }) === 0) continue
          memory.leave(each)
          left.delete(each)
        }
      }
      expect([left.size, memory.bytes]).toEqual([0, 0])
    })
    fc.assert(property, { numRuns: 200 })
  })
})

test.each([true, false])(
  'fifty readers that leave at once leave nothing behind, ranges honoured: %s',
  async (ranged) => {
    const bytes = blob(40 * MIB)
    const memory = new PassingMemory(LEAST_BYTES)
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
    await expect.poll(() => memory.bytes).toBe(0)
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
    expect(mostBytes).toBeLessThanOrEqual(200 * MIB)
    expect(mostBytes).toBeGreaterThan(50 * MIB)
    await Promise.all(passing.map(({ download }) => download.ended))
    await expect.poll(() => memory.bytes).toBe(0)
  },
)

test.each([true, false])(
  'a hundred blobs at once, with memory for three, never hold more, and all are read, ranges honoured: %s',
  { timeout: 60_000 },
  async (ranged) => {
    const createIngest = createOn({ directory: '/nowhere', room: -1 })
    const bound = 3 * LEAST_BYTES
    const memory = new PassingMemory(bound)
    downloads = new Downloads({ observer, createIngest, memory, fetch: { idleMs: 50 } })
    let mostBytes = 0
    const all: Download[] = []
    const look = () => {
      const held = all.reduce((sum, { memory: own }) => sum + (own?.bytes ?? 0), 0)
      mostBytes = Math.max(mostBytes, held)
    }
    await Promise.all(
      Array.from({ length: 100 }, async (_, each) => {
        const content = blob(2 * MIB, each + 1)
        const source = looking(
          upstream(() => content, { ranged }),
          look,
        )
        const download = begin(downloads!, digestOf(content), [source], content.length)
        all.push(download)
        const { done } = await read(download)
        expect((await done).equals(content)).toBe(true)
      }),
    )
    expect(mostBytes).toBeLessThanOrEqual(bound)
    expect(mostBytes).toBeGreaterThan(MIB)
    await Promise.all(all.map(({ ended }) => ended))
    await expect.poll(() => memory.bytes).toBe(0)
  },
)

test(
  'a reader that never reads does not keep the others from theirs',
  { timeout: 30_000 },
  async () => {
    const createIngest = createOn({ directory: '/nowhere', room: -1 })
    const memory = new PassingMemory(LEAST_BYTES)
    downloads = new Downloads({ observer, createIngest, memory, fetch: { idleMs: 50 } })
    const start = (each: number) => {
      const content = blob(9 * MIB, each)
      const source = upstream(() => content)
      const download = begin(downloads!, digestOf(content), [source], content.length)
      return { content, source, download }
    }
    const first = start(0)
    await first.download.ready
    const idle = first.download.read()
    idle.plan(undefined)
    await expect.poll(() => first.source.sent).toBeGreaterThan(MIB)
    await Promise.all(
      Array.from({ length: 7 }, async (_, each) => {
        const { download, content } = start(each + 1)
        const { done } = await read(download)
        expect((await done).equals(content)).toBe(true)
      }),
    )
    // And it has only waited: it gets all of it when it reads after all.
    const options = { range: undefined, pauseMs: 0, pieceBytes: 256 * 1024, stopAt: Infinity }
    expect((await readAll(idle, options)).equals(first.content)).toBe(true)
    await idle.close()
  },
)

/** Looks at each chunk that the source gives. */
function looking(source: TestSource, look: () => void): Source {
  async function* body(chunks: AsyncIterable<Uint8Array>) {
    for await (const chunk of chunks) {
      look()
      yield chunk
    }
  }
  return {
    id: source.id,
    origin: source.origin,
    health: 'ok',
    fetch: async (...asked) => {
      const response = await source.fetch(...asked)
      return { ...response, body: Object.assign(body(response.body), { discard() {} }) }
    },
  }
}
