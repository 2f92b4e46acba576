import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { NEAR_PARTS_BYTES, stretchesAhead } from '../../../src/cache/fetch/read-ahead.ts'
import { Intervals } from '../../../src/http/intervals.ts'

const KIB = 1024
const MIB = 1024 * KIB
const nothing = new Intervals()

describe('read-ahead for a reader of several parts', () => {
  test('that lie close together is one stretch of bytes', () => {
    const parts = Array.from({ length: 40 }, (_, i) => ({ start: i * 30_000, end: i * 30_000 + 9 }))
    expect(stretchesAhead(parts, 0, nothing)).toEqual([{ start: 0, end: 39 * 30_000 + 9 }])
    expect(stretchesAhead(parts, 38, nothing)).toHaveLength(1)
    expect(stretchesAhead(parts, 40, nothing)).toEqual([])
  })

  test('that lie far apart is the next four of them', () => {
    const parts = Array.from({ length: 9 }, (_, i) => ({ start: i * MIB, end: i * MIB + 9 }))
    expect(stretchesAhead(parts, 3, nothing)).toEqual(parts.slice(3, 7))
  })

  test('includes parts that overlap or come again', () => {
    const parts = [
      { start: 5, end: 90 },
      { start: 20, end: 40 },
      { start: 20, end: 95 },
    ]
    expect(stretchesAhead(parts, 0, nothing)).toEqual([{ start: 5, end: 95 }])
  })

  test('leaves out what is there already, and what lies between parts that are', () => {
    const parts = [
      { start: 0, end: 10 },
      { start: 20, end: 30 },
      { start: 40, end: 50 },
    ]
    const have = new Intervals([
      { start: 0, end: 10 },
      { start: 20, end: 25 },
    ])
    expect(stretchesAhead(parts, 0, have)).toEqual([{ start: 25, end: 50 }])
    have.add(25, 30)
    expect(stretchesAhead(parts, 0, have)).toEqual([{ start: 40, end: 50 }])
  })

  test('is of bounded length, whatever the parts are, and begins with the first that is missing', () => {
    const part = fc
      .tuple(fc.nat(50 * MIB), fc.integer({ min: 1, max: 200 * KIB }))
      .map(([start, length]) => ({ start, end: start + length }))
    const parts = fc.array(part, { minLength: 1, maxLength: 50 })
    fc.assert(
      fc.property(parts, parts, (wanted, held) => {
        const have = new Intervals(held)
        const stretches = stretchesAhead(wanted, 0, have)
        const [missing] = wanted.flatMap(({ start, end }) => have.missing(start, end))
        expect(stretches[0]?.start).toBe(missing?.start)
        expect(stretches.length).toBeLessThanOrEqual(4)
        const asked = new Intervals(wanted)
        for (const { start, end } of stretches) {
          expect(end - start).toBeLessThanOrEqual(2 * MIB)
          const between = asked.missing(start, end).map((gap) => gap.end - gap.start)
          expect(Math.max(0, ...between)).toBeLessThanOrEqual(NEAR_PARTS_BYTES)
        }
      }),
    )
  })
})
