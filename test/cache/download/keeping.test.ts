// When a growing blob is made durable: often enough that a kill costs little, and no more often than the disk
// can take.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Attempt } from '../../../src/cache/fetch/attempt.ts'
import { BlobKeeping } from '../../../src/cache/download/keeping.ts'

const MIB = 1024 * 1024

let bytes: number
/** How much there was at each checkpoint. */
let noted: number[]
/** How long a checkpoint takes. */
let diskMs: number
let keeping: BlobKeeping

const attempt = {
  get have() {
    return { bytes }
  },
  checkpoint: async () => {
    noted.push(bytes)
    await vi.advanceTimersByTimeAsync(0)
    await new Promise((resolve) => setTimeout(resolve, diskMs))
  },
} as unknown as Attempt

beforeEach(() => {
  vi.useFakeTimers()
  bytes = 0
  noted = []
  diskMs = 0
  keeping = new BlobKeeping({
    observer: {
      downloadStarted: () => {},
      downloadEnded: () => {},
      readersChanged: () => {},
      verificationFailed: () => {},
      sourceFailed: () => {},
      storeError: () => expect.unreachable('no checkpoint fails'),
    },
  })
})
afterEach(() => vi.useRealTimers())

/** Bytes come at this speed for so long, a tenth of a second at a time. */
async function comes(bytesPerSecond: number, seconds: number): Promise<void> {
  for (let tenth = 0; tenth < seconds * 10; tenth++) {
    bytes += bytesPerSecond / 10
    await keeping.grown(attempt, Infinity)
    await vi.advanceTimersByTimeAsync(100)
  }
}

describe('a blob that grows', () => {
  test('slowly is checkpointed every two seconds', async () => {
    await comes(MIB, 10)
    expect(noted.length).toBeGreaterThanOrEqual(4)
    expect(noted.length).toBeLessThanOrEqual(5)
    expect(bytes - noted.at(-1)!).toBeLessThanOrEqual(2.1 * MIB)
  })

  test('and stalls is checkpointed to its last byte', async () => {
    await comes(MIB, 1)
    await vi.advanceTimersByTimeAsync(2000)
    expect(noted).toEqual([bytes])
    await vi.advanceTimersByTimeAsync(60_000)
    expect(noted).toHaveLength(1)
  })

  test('fast is checkpointed every 64 MiB, and not by the clock as well', async () => {
    await comes(640 * MIB, 10)
    expect(noted).toHaveLength(100)
    expect(noted.slice(0, 2)).toEqual([64 * MIB, 128 * MIB])
  })

  test('onto a slow disk is checkpointed less often', async () => {
    diskMs = 1000
    await comes(5 * MIB, 44)
    expect(noted.length).toBeGreaterThanOrEqual(3)
    expect(noted.length).toBeLessThanOrEqual(4)
  })

  test('faster than the disk is never checkpointed twice at once', async () => {
    diskMs = 1000
    await comes(1000 * MIB, 10)
    expect(noted.length).toBeLessThanOrEqual(10)
  })
})
