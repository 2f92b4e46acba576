// Random readers of blobs that cannot be kept, also where what was written cannot be read again, or one
// of two sources lies: whatever they do, each gets the right bytes, nobody waits for ever, nothing is
// asked for without end, and memory stays within its bound.
import * as fc from 'fast-check'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { Downloads, type DownloadsOptions } from '../../../src/cache/download/downloads.ts'
import { MemoryBudget } from '../../../src/cache/bypass/memory-budget.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { OciError } from '../../../src/oci/errors.ts'
import { UpstreamError } from '../../../src/upstream/face/failure.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import { begin, blob, createOn, MIB, read, SILENT, upstream } from './bypass-fixture.ts'

/** For a longer search: `BYPASS_SECONDS=600 npx vitest run test/cache/bypass/bypass-random.test.ts`. */
const SECONDS = Number(process.env.BYPASS_SECONDS ?? 6)
const MOST_MS = 15_000

const bytes = blob(40 * MIB + 12_345)
const OTHERS = Array.from({ length: 4 }, (_, each) => blob(9 * MIB, each + 2))
const position = fc.integer({ min: 0, max: bytes.length - 1 })

const aReader = fc.record({
  afterMs: fc.integer({ min: 0, max: 60 }),
  pauseMs: fc.constantFrom(0, 0, 1, 3),
  pieceBytes: fc.constantFrom(64 * 1024, 200_000, MIB),
  range: fc.option(
    fc
      .tuple(position, position)
      .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) + 1 })),
    { nil: undefined },
  ),
  leavesAfter: fc.option(fc.integer({ min: 1, max: bytes.length }), { nil: Infinity }),
})

const aScene = fc.record({
  room: fc.constantFrom(-1, 0, 1_000_001, 17 * MIB, 40 * MIB),
  ranged: fc.boolean(),
  knowsSize: fc.boolean(),
  delayMs: fc.constantFrom(0, 0, 1),
  connections: fc.constantFrom(1, 2, 4),
  maxConnections: fc.constantFrom(1, 2, 16),
  cuts: fc.array(fc.integer({ min: 2 * MIB, max: 30 * MIB }), { maxLength: 3 }),
  memoryMib: fc.constantFrom(256, 256, 9, 2),
  /** From the nth call on. */
  breaks: fc.option(
    fc.record({
      step: fc.constantFrom('read', 'endWriting', 'verify'),
      after: fc.integer({ min: 0, max: 20 }),
    }),
    { nil: undefined, freq: 2 },
  ),
  /** One source more, asked first, with one wrong byte. */
  liesAt: fc.option(position, { nil: undefined, freq: 2 }),
  readers: fc.array(aReader, { minLength: 1, maxLength: 8 }),
  /** How many other blobs bypass the disk at once. */
  others: fc.constantFrom(0, 0, 1, 4),
})

type Scene = typeof aScene extends fc.Arbitrary<infer T> ? T : never

function breaking(
  create: DownloadsOptions['createIngest'],
  { step, after }: NonNullable<Scene['breaks']>,
): DownloadsOptions['createIngest'] {
  return async (digest) => {
    const ingest = await create(digest)
    const original = ingest[step].bind(ingest) as (...args: unknown[]) => Promise<never>
    let calls = 0
    ingest[step] = (...args: unknown[]): Promise<never> => {
      calls += 1
      if (calls <= after) return original(...args)
      return Promise.reject(Object.assign(new Error('I/O error'), { code: 'EIO' }))
    }
    return ingest
  }
}

/** Who reads all of it is cut rather than given what nobody can vouch for any more. */
function mayFail({ breaks, liesAt }: Scene, isWhole: boolean, error: unknown): boolean {
  if (liesAt !== undefined && error instanceof UpstreamError) return true
  return breaks !== undefined && isWhole && error instanceof OciError
}

async function play(scene: Scene): Promise<void> {
  await using directory = await temporaryDirectory()
  const { room, connections, maxConnections, ranged, delayMs, cuts, breaks, liesAt } = scene
  // Where ranges are ignored, one cut before the place that is wanted is no progress: two are the end.
  const cutAfter = (nth: number) => (ranged || nth === 0 ? cuts[nth] : undefined) ?? Infinity
  const create = createOn({ directory: directory.path, room })
  const memory = new MemoryBudget(scene.memoryMib * MIB)
  const downloads = new Downloads({
    observer: SILENT,
    retryDelayMs: 1,
    memory,
    createIngest: breaks ? breaking(create, breaks) : create,
    fetch: { idleMs: 600, connections, maxConnections },
  })
  const one = upstream(() => bytes, { ranged, delayMs, cutAfter })
  const wrong = Buffer.from(bytes)
  if (liesAt !== undefined) wrong[liesAt]! ^= 1
  const liar = upstream(() => wrong, { ranged, delayMs, id: 'liar' })
  const sources = liesAt === undefined ? [one] : [liar, one]
  const digest = digestOf(bytes)
  const size = scene.knowsSize ? bytes.length : undefined
  const readers = scene.readers.map(async ({ afterMs, leavesAfter, range, ...pace }) => {
    await sleep(afterMs)
    const download = begin(downloads, digest, sources, size)
    await (size === undefined ? download.opened : download.ready)
    const stopAt = (range?.start ?? 0) + leavesAfter
    const { start, end } = range ?? { start: 0, end: bytes.length }
    const isWhole = start === 0 && end === bytes.length
    const reading = await read(download, { ...pace, range, stopAt })
    const got = await reading.done.catch((error: unknown) => {
      if (!mayFail(scene, isWhole, error)) throw error
    })
    // What is not read to its end is not verified.
    const mayBeWrong = liesAt !== undefined && (!isWhole || stopAt < end)
    if (got && !mayBeWrong) {
      expect(got.equals(bytes.subarray(start, Math.min(end, stopAt)))).toBe(true)
    }
    expect(memory.peakBytes).toBeLessThanOrEqual(scene.memoryMib * MIB)
  })
  const others = OTHERS.slice(0, scene.others).map(async (content) => {
    const source = upstream(() => content, { ranged, delayMs })
    const download = begin(downloads, digestOf(content), [source], content.length)
    const { done } = await read(download)
    const got = await done.catch((error: unknown) => {
      if (breaks === undefined) throw error // what is cut is told, and never wrong
    })
    if (got) expect(got.equals(content)).toBe(true)
  })
  try {
    const late = sleep(MOST_MS, undefined, { ref: false }).then(() => {
      throw new Error(`somebody still waits after ${MOST_MS} ms`)
    })
    await Promise.race([Promise.all([...readers, ...others]), late])
  } finally {
    await downloads.stop()
    await Promise.allSettled([...readers, ...others])
  }
  expect(memory.usedBytes).toBe(0)
}

test(
  'random readers on random disks get the right bytes, within bounds',
  { timeout: (SECONDS + 60) * 1000 },
  async () => {
    await fc.assert(fc.asyncProperty(aScene, play), {
      numRuns: SECONDS * 4,
      endOnFailure: true,
      interruptAfterTimeLimit: SECONDS * 1000,
    })
  },
)
