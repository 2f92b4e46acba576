import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Intervals } from '../../src/http/intervals.ts'

const SPAN = 60

const interval = fc
  .tuple(fc.nat(SPAN), fc.nat(SPAN))
  .map(([a, b]) => ({ start: Math.min(a, b), end: Math.max(a, b) }))
const several = fc.array(interval, { maxLength: 20 })

/** The same in the plainest way: one flag per byte. */
function flags(parts: Iterable<{ start: number; end: number }>): boolean[] {
  const held = Array.from({ length: SPAN + 1 }, () => false)
  for (const { start, end } of parts) held.fill(true, start, end)
  return held
}

describe('Intervals', () => {
  it('join what overlaps or touches, and keep apart what does not', () => {
    const intervals = new Intervals([{ start: 10, end: 20 }])
    intervals.add(30, 40)
    intervals.add(20, 25)
    intervals.add(5, 10)
    expect(intervals.toJSON()).toEqual([
      [5, 25],
      [30, 40],
    ])
    intervals.add(24, 31)
    expect(intervals.toJSON()).toEqual([[5, 40]])
    intervals.add(7, 7)
    intervals.add(50, 50)
    expect(intervals.toJSON()).toEqual([[5, 40]])
    expect(intervals.bytes).toBe(35)
  })

  it('say where the first missing byte is, and what is missing in between', () => {
    const intervals = new Intervals([
      { start: 0, end: 10 },
      { start: 20, end: 30 },
    ])
    expect([0, 9, 10, 15, 20, 29, 30, 99].map((at) => intervals.endFrom(at))).toEqual([
      10, 10, 10, 15, 30, 30, 30, 99,
    ])
    expect(intervals.missing(0, 40)).toEqual([
      { start: 10, end: 20 },
      { start: 30, end: 40 },
    ])
    expect(intervals.missing(12, 25)).toEqual([{ start: 12, end: 20 }])
    expect(intervals.missing(20, 30)).toEqual([])
    expect(intervals.missing(5, 5)).toEqual([])
  })

  it('agree with one flag per byte', () => {
    fc.assert(
      fc.property(several, interval, (parts, { start, end }) => {
        const intervals = new Intervals(parts)
        const held = flags(parts)
        expect(intervals.bytes).toBe(held.filter(Boolean).length)
        expect(flags(intervals)).toEqual(held)
        expect(intervals.has(start, end)).toBe(held.slice(start, end).every(Boolean))
        const next = held.indexOf(false, start)
        expect(intervals.endFrom(start)).toBe(next)
        const first = held.indexOf(true, start)
        expect(intervals.startFrom(start)).toBe(first < 0 ? Infinity : first)
        const gaps = flags(intervals.missing(start, end))
        expect(gaps).toEqual(held.map((is, at) => !is && at >= start && at < end))
      }),
      { numRuns: 500 },
    )
  })

  it('are always sorted, disjoint and without empty or touching neighbours', () => {
    fc.assert(
      fc.property(several, interval, (parts, asked) => {
        const intervals = new Intervals(parts)
        for (const list of [[...intervals], intervals.missing(asked.start, asked.end)]) {
          for (const [index, { start, end }] of list.entries()) {
            expect(start).toBeLessThan(end)
            if (index > 0) expect(start).toBeGreaterThan(list[index - 1]?.end ?? Infinity)
          }
        }
      }),
    )
  })

  it('come back from JSON as they were', () => {
    fc.assert(
      fc.property(several, (parts) => {
        const intervals = new Intervals(parts)
        const back = Intervals.fromJSON(JSON.parse(JSON.stringify(intervals)))
        expect(back.toJSON()).toEqual(intervals.toJSON())
        expect(back.bytes).toBe(intervals.bytes)
      }),
    )
  })

  it.each([
    [undefined],
    [null],
    ['x'],
    [{}],
    [5],
    [[5]],
    [[[1]]],
    [[[1, '2']]],
    [[[2, 1]]],
    [[[-1, 1]]],
    [[[0, 1.5]]],
    [[[0, 2 ** 53]]],
    [[[0, Number.NaN]]],
    [[[0, 1], null]],
  ])('refuse the JSON %j', (value) => {
    expect(() => Intervals.fromJSON(value)).toThrow(TypeError)
  })

  it.each([
    [-1, 1],
    [2, 1],
    [0, Number.NaN],
    [0.5, 1],
    [0, Infinity],
  ])('refuse to add %d to %d', (start, end) => {
    expect(() => new Intervals().add(start, end)).toThrow(RangeError)
  })

  it('take a million pieces in order, and many out of order, in a short time', () => {
    const started = performance.now()
    const inOrder = new Intervals()
    for (let at = 0; at < 1_000_000; at++) inOrder.add(at * 65_536, (at + 1) * 65_536)
    expect(inOrder.toJSON()).toEqual([[0, 65_536_000_000]])
    const scattered = new Intervals()
    for (let at = 20_000; at > 0; at--) scattered.add(at * 10, at * 10 + 5)
    expect(scattered.bytes).toBe(100_000)
    expect(performance.now() - started).toBeLessThan(5000)
  })
})
