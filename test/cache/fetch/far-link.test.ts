// Blobs from far away: what is asked for first, and a front piece that crawls while others run.
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { DEFAULT_FETCH, Downloads } from '../../../src/cache/download/downloads.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import type { Source, SourceHealth, SourceResponse } from '../../../src/upstream/face/source.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import {
  begin,
  blob,
  createOn,
  MIB,
  read,
  SILENT,
  type TestSource,
  upstream,
} from '../bypass/bypass-fixture.ts'

const KIB = 1024
const PIECE = 256 * KIB

function far(source: TestSource): TestSource {
  return Object.assign(source, { latencyMs: 50 })
}

/** Pulls it into a directory of its own. */
async function pull(
  bytes: Buffer,
  source: Source,
  size?: number,
  pieceBytes = PIECE,
): Promise<void> {
  await using directory = await temporaryDirectory()
  const downloads = new Downloads({
    observer: SILENT,
    fetch: { ...DEFAULT_FETCH, pieceBytes },
    createIngest: createOn({ directory: directory.path, room: Infinity }),
  })
  try {
    const reading = await read(begin(downloads, digestOf(bytes), [source], size))
    expect((await reading.done).equals(bytes)).toBe(true)
  } finally {
    await downloads.stop()
  }
}

describe('the first request', () => {
  const bytes = blob(4 * MIB)

  test('is for the whole blob where nobody knows how far the endpoint is', async () => {
    const one = upstream(() => bytes)
    await pull(bytes, one, bytes.length)
    expect(one.asked[0]).toEqual({ start: 0, end: bytes.length })
  })

  test.each([bytes.length, undefined])(
    'is for a piece where the endpoint is known to be far, so that its connection can be used again (size: %s)',
    async (size) => {
      const one = far(upstream(() => bytes))
      await pull(bytes, one, size)
      expect(one.asked[0]).toEqual({ start: 0, end: PIECE })
      expect(one.sent).toBe(bytes.length)
    },
  )

  test('is the only one where the far endpoint answers it with the whole', async () => {
    const one = far(upstream(() => bytes, { ranged: false }))
    await pull(bytes, one, bytes.length)
    expect(one.asked).toEqual([{ start: 0, end: bytes.length }])
  })

  test.each([0, 1, PIECE - 1, PIECE])('of a blob of %i bytes is the only one', async (size) => {
    const small = blob(size)
    const one = far(upstream(() => small))
    await pull(small, one)
    expect(one.asked).toEqual([{ start: 0, end: size }])
  })

  test('is sent again for the whole where its response does not say how much there is', async () => {
    const one = far(upstream(() => bytes))
    const asked: unknown[] = []
    const silent: Source = {
      ...one,
      latencyMs: 50,
      fetch: async (digest, range, signal) => {
        asked.push(range)
        const { size, ranged, ...response } = await one.fetch(digest, range, signal)
        const isPart = typeof range === 'object' && range.end !== undefined
        return { ...response, ranged: isPart ? false : ranged, size: isPart ? undefined : size }
      },
    }
    await pull(bytes, silent)
    expect(asked).toEqual([{ start: 0, end: PIECE }, { start: 0 }])
  })
})

/** The first request for the front brings a little and then, for as long as it is let, next to nothing. */
function crawlingAtFirst(bytes: Buffer, health: SourceHealth) {
  const asked: number[] = []
  let sent = 0
  async function* body(start: number, end: number, crawls: boolean, until: AbortSignal) {
    for (let at = start; at < end; at += 64 * KIB) {
      await sleep(crawls && at > start ? 90 : 8, undefined, { signal: until })
      const chunk = bytes.subarray(at, Math.min(at + 64 * KIB, end))
      sent += chunk.length
      yield chunk
    }
  }
  const source: Source = {
    id: 'one',
    origin: 'one',
    health,
    latencyMs: 50,
    fetch: async (_digest, range, until): Promise<SourceResponse> => {
      const { start, end = bytes.length } = typeof range === 'number' ? { start: range } : range
      const crawls = start === 0 && !asked.includes(0)
      asked.push(start)
      const stream = Object.assign(body(start, end, crawls, until), { discard() {} })
      return { start, end, size: bytes.length, ranged: true, body: stream, grantedBy: 'anonymous' }
    },
  }
  return { source, asked, sent: () => sent }
}

// One after the other: how fast requests are is compared, and side by side they slow each other down.
describe('a front piece that crawls while others run', () => {
  const bytes = blob(48 * MIB)

  test('is requested again from where it is, and no byte is fetched twice', async () => {
    const { source, asked, sent } = crawlingAtFirst(bytes, 'ok')
    await pull(bytes, source, bytes.length, 2 * MIB)
    const anew = asked.filter((start) => start % (2 * MIB) !== 0)
    expect(anew).toHaveLength(1)
    expect(anew[0]).toBeLessThan(2 * MIB)
    expect(sent()).toBe(bytes.length)
  })

  test('is left alone while the endpoint is rate-limiting us', async () => {
    const { source, asked } = crawlingAtFirst(bytes.subarray(0, 22 * MIB), 'limited')
    await pull(bytes.subarray(0, 22 * MIB), source, 22 * MIB, 2 * MIB)
    expect(asked.filter((start) => start % (2 * MIB) !== 0)).toEqual([])
  })
})
