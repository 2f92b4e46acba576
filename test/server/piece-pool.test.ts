import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Piece,
  PiecePool,
  type PoolLimits,
  type Standing,
} from '../../src/server/piece-pool.ts'

const KIB = 1024
const LIMITS: PoolLimits = {
  baseBytes: 512 * KIB,
  leanBytes: 64 * KIB,
  reserveBytes: 16 * KIB,
  growthBytes: 1024 * KIB,
  idleBytes: 256 * KIB,
}
const MOST = LIMITS.baseBytes + LIMITS.leanBytes + LIMITS.growthBytes

function takeAll(pool: PiecePool, wanted: number, standing: Standing): Piece[] {
  const pieces: Piece[] = []
  for (let piece = pool.take(wanted, standing); piece; piece = pool.take(wanted, standing)) {
    pieces.push(piece)
  }
  return pieces
}

function sizes(pieces: Piece[]): number[] {
  return pieces.map((piece) => piece.bytes.length / KIB)
}

describe('the piece pool', () => {
  it('lends what is wanted, in sizes that can be used again', () => {
    const pool = new PiecePool(LIMITS)
    const given = [1, 16 * KIB, 20_000, 64 * KIB, 65_537, 200 * KIB, 512 * KIB].map((wanted) =>
      pool.take(wanted, 'fast')!,
    )
    expect(sizes(given)).toEqual([16, 16, 64, 64, 128, 256, 512])
  })

  it('lets new readers have half of the growth, so that the others keep theirs', () => {
    const pool = new PiecePool(LIMITS)
    expect(sizes(takeAll(pool, 512 * KIB, 'new')).filter((size) => size === 512).length).toBe(1)
    expect(pool.take(512 * KIB, 'fast')?.bytes.length).toBe(512 * KIB)
  })

  it('gives slow readers small pieces, and half of the usual ones at most', () => {
    const pool = new PiecePool(LIMITS)
    const slow = sizes(takeAll(pool, 512 * KIB, 'slow'))
    expect(slow).toEqual([64, 64, 64, 64, 16, 16, 16])
    expect(pool.take(64 * KIB, 'new')?.bytes.length).toBe(64 * KIB)
  })

  it('keeps a reserve for readers that were fast', () => {
    const pool = new PiecePool(LIMITS)
    takeAll(pool, 512 * KIB, 'new')
    expect(pool.take(64 * KIB, 'slow')).toBeUndefined()
    expect(pool.take(64 * KIB, 'fast')).toBeDefined()
  })

  it('serves waiting readers in turn, the slow ones after the others', async () => {
    const pool = new PiecePool({ ...LIMITS, growthBytes: 0, leanBytes: 0, baseBytes: 128 * KIB })
    const [first, second] = takeAll(pool, 64 * KIB, 'new')
    const order: string[] = []
    const { signal } = new AbortController()
    const waiting = (['slow', 'new', 'fast'] as const).map(async (standing) => {
      const piece = await pool.wait(64 * KIB, standing, signal)
      order.push(standing)
      pool.release(piece)
    })
    expect(pool.usage.waiting).toBe(3)
    pool.release(first!)
    await Promise.resolve()
    pool.release(second!)
    await Promise.all(waiting)
    expect(order).toEqual(['new', 'fast', 'slow'])
    expect(pool.usage).toMatchObject({ inUse: 0, waiting: 0 })
  })

  it('forgets readers that gave up waiting', async () => {
    const pool = new PiecePool({ ...LIMITS, growthBytes: 0, leanBytes: 0, baseBytes: 64 * KIB })
    const piece = pool.take(64 * KIB, 'new')!
    const left = new AbortController()
    const waiting = pool.wait(64 * KIB, 'new', left.signal)
    left.abort(new Error('left'))
    await expect(waiting).rejects.toThrow('left')
    await expect(pool.wait(1, 'new', left.signal)).rejects.toThrow('left')
    pool.release(piece)
    expect(pool.usage).toMatchObject({ inUse: 0, waiting: 0 })
  })

  it('reuses its buffers, and keeps few of them idle', () => {
    const pool = new PiecePool(LIMITS)
    const piece = pool.take(64 * KIB, 'new')!
    pool.release(piece)
    expect(pool.take(64 * KIB, 'new')?.bytes).toBe(piece.bytes)
    for (const each of takeAll(pool, 512 * KIB, 'fast')) pool.release(each)
    expect(pool.usage.idle).toBeLessThanOrEqual(LIMITS.idleBytes)
  })

  it('never lends more than its limits, whatever readers do, nor the same buffer twice', () => {
    const step = fc.record({
      wanted: fc.integer({ min: 1, max: 600 * KIB }),
      standing: fc.constantFrom<Standing>('new', 'fast', 'slow'),
      release: fc.nat(),
      take: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const pool = new PiecePool(LIMITS)
        const lent: Piece[] = []
        for (const { wanted, standing, release, take } of steps) {
          const piece = take ? pool.take(wanted, standing) : undefined
          if (piece) lent.push(piece)
          if (!take && lent.length > 0) pool.release(lent.splice(release % lent.length, 1)[0]!)
          const total = lent.reduce((sum, each) => sum + each.bytes.length, 0)
          expect(pool.usage.inUse).toBe(total)
          expect(total).toBeLessThanOrEqual(MOST)
          expect(new Set(lent.map((each) => each.bytes)).size).toBe(lent.length)
        }
      }),
    )
  })
})
