// Readers whose manifests claim any size of one blob, in any order, on a good disk and on a full one,
// from upstreams that announce sizes and ranges or do not: whoever was told the truth, or nothing, gets
// the right bytes, and nobody waits for ever.
import * as fc from 'fast-check'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { Content } from '../../../src/cache/content.ts'
import { Downloads } from '../../../src/cache/download/downloads.ts'
import type { ByteRange } from '../../../src/http/range.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import { begin, blob, createOn, readAll, SILENT, upstream } from '../bypass/bypass-fixture.ts'

const KIB = 1024
const MOST_MS = 10_000
const signal = new AbortController().signal

const bytes = blob(2048 * KIB + 77)
const SIZE = bytes.length
const digest = digestOf(bytes)

const aReader = fc.record({
  claim: fc.oneof(
    { weight: 2, arbitrary: fc.constantFrom<number | undefined>(SIZE, undefined) },
    { weight: 2, arbitrary: fc.constantFrom(1, SIZE - 1, SIZE + 1, 5 * SIZE, 2 ** 50) },
  ),
  afterMs: fc.integer({ min: 0, max: 8 }),
  range: fc.option(
    fc
      .tuple(fc.nat(SIZE - 1), fc.nat(SIZE - 1))
      .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) + 1 })),
    { nil: undefined },
  ),
})

const aScene = fc.record({
  knowsSize: fc.boolean(),
  ranged: fc.boolean(),
  room: fc.constantFrom(Infinity, Infinity, -1, 600 * KIB),
  delayMs: fc.constantFrom(0, 1),
  connections: fc.constantFrom(1, 4),
  readers: fc.array(aReader, { minLength: 1, maxLength: 6 }),
})

type Scene = typeof aScene extends fc.Arbitrary<infer T> ? T : never

/** Plans a response as the server does, and says what it promised; undefined: there is no such part. */
async function promise(
  content: Content,
  range: ByteRange | undefined,
): Promise<ByteRange | undefined> {
  for (;;) {
    const { size } = content
    const end = Math.min(range?.end ?? Infinity, size ?? Infinity)
    const start = range?.start ?? 0
    const isProbe = size !== undefined && start >= end && content.isSizeClaimed
    if (size !== undefined && start >= end && !isProbe) return undefined
    const planned = isProbe ? { start: 0, end: 1 } : { start, end }
    content.plan(range && size !== undefined ? [planned] : undefined)
    if (content.available(planned.start) === 0) await content.wait(planned.start, signal)
    if (isProbe && content.isSizeClaimed && content.available(0) > 0) return undefined
    if (content.size !== size || isProbe) continue
    content.promise()
    return size === undefined ? { start: 0, end: Infinity } : { start, end }
  }
}

async function play(scene: Scene): Promise<void> {
  await using directory = await temporaryDirectory()
  const { knowsSize, ranged, delayMs, room, connections } = scene
  const downloads = new Downloads({
    observer: SILENT,
    retryDelayMs: 1,
    createIngest: createOn({ directory: directory.path, room }),
    fetch: { pieceBytes: 256 * KIB, connections, idleMs: 50 },
  })
  const source = upstream(() => bytes, { ranged, delayMs, size: knowsSize })
  const readers = scene.readers.map(async ({ claim, afterMs, range }) => {
    await sleep(afterMs)
    const isHonest = claim === undefined || claim === SIZE
    const download = begin(downloads, digest, [source], claim)
    const content = await download.reader(claim)
    try {
      if (claim === undefined) await download.opened
      const promised = await promise(content, range)
      if (!isHonest && !knowsSize) return // nobody can know better than its manifest
      const wanted = range ?? { start: 0, end: SIZE }
      const isWhole = promised?.end === Infinity
      if (!isWhole) expect(promised).toEqual(wanted)
      const options = { range: isWhole ? undefined : promised, pauseMs: 0, stopAt: Infinity }
      const got = await readAll(content, { ...options, pieceBytes: 100_000 })
      expect(got.equals(isWhole ? bytes : bytes.subarray(wanted.start, wanted.end))).toBe(true)
    } catch (error) {
      if (isHonest || knowsSize) throw error
    } finally {
      await content.close()
    }
  })
  try {
    const late = sleep(MOST_MS, undefined, { ref: false }).then(() => {
      throw new Error(`somebody still waits after ${MOST_MS} ms`)
    })
    await Promise.race([Promise.all(readers), late])
  } finally {
    await downloads.stop()
    await Promise.allSettled(readers)
  }
}

/** For a longer search: `CLAIM_RUNS=5000 npx vitest run test/cache/download/lying-claims.test.ts`. */
const RUNS = Number(process.env.CLAIM_RUNS ?? 30)

test('a lie about the size costs nobody who was told the truth', { timeout: 600_000 }, async () => {
  await fc.assert(fc.asyncProperty(aScene, play), { numRuns: RUNS, endOnFailure: true })
})
