// The work of feeding a blob that cannot be kept grows with the number of its readers, and no faster.
import { Session } from 'node:inspector/promises'
import { afterEach, expect, test } from 'vitest'
import { Downloads } from '../../../src/cache/download/downloads.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import { begin, blob, createOn, MIB, read, SILENT, upstream } from './bypass-fixture.ts'

const bytes = blob(8 * MIB)
const digest = digestOf(bytes)

let downloads: Downloads | undefined

afterEach(() => downloads?.stop())

/** Runs `work` and returns how many calls of functions of src/cache it took. */
async function callsOf(work: () => Promise<void>): Promise<number> {
  const session = new Session()
  session.connect()
  await session.post('Profiler.enable')
  await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false })
  try {
    await work()
    const { result } = await session.post('Profiler.takePreciseCoverage')
    const ours = result.filter(({ url }) => url.includes('/src/cache/'))
    return ours
      .flatMap(({ functions }) => functions)
      .reduce((sum, { ranges }) => sum + (ranges[0]?.count ?? 0), 0)
  } finally {
    session.disconnect()
  }
}

async function pull(readers: number): Promise<number> {
  const createIngest = createOn({ directory: '/nowhere', room: -1 })
  downloads = new Downloads({ observer: SILENT, createIngest, fetch: { idleMs: 30 } })
  const one = upstream(() => bytes)
  const download = begin(downloads, digest, [one], bytes.length)
  const readings = await Promise.all(Array.from({ length: readers }, () => read(download)))
  for (const { done } of readings) expect((await done).equals(bytes)).toBe(true)
  await download.ended
  return one.sent
}

test('twenty readers at about the same pace cost one fetch', async () => {
  expect(await pull(20)).toBe(bytes.length)
})

test('the calls for 5, 20 and 80 readers grow as the readers do', { timeout: 60_000 }, async () => {
  await pull(5) // what is called once
  const calls: number[] = []
  for (const readers of [5, 20, 80]) {
    calls.push(await callsOf(async () => void (await pull(readers))))
  }
  const perReader = [calls[0]! / 5, calls[1]! / 20, calls[2]! / 80]
  expect(perReader[0]).toBeGreaterThan(100) // or nothing was counted
  expect(Math.max(...perReader)).toBeLessThan(Math.min(...perReader) * 1.3)
})
