import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type ByteRange,
  formatContentRange,
  MAX_RANGES,
  parseContentRange,
  parseRange,
  unsatisfiedContentRange,
} from '../../src/http/range.ts'

const HUGE = '9'.repeat(40)

function ranges(...pairs: [number, number][]): ByteRange[] {
  return pairs.map(([start, end]) => ({ start, end }))
}

function many(count: number): string {
  const list = Array.from({ length: count }, (_, i) => `${i * 1000}-${i * 1000 + 99}`)
  return `bytes=${list.join(',')}`
}

describe('parseRange of 10 bytes', () => {
  it.each([
    ['bytes=0-0', ranges([0, 1])],
    ['bytes=0-', ranges([0, 10])],
    ['bytes=3-5', ranges([3, 6])],
    ['bytes=9-9', ranges([9, 10])],
    ['bytes=9-10', ranges([9, 10])],
    [`bytes=0-${HUGE}`, ranges([0, 10])],
    ['bytes=0-9007199254740993', ranges([0, 10])],
    ['bytes=0000000000000000000001-2', ranges([1, 3])],
    ['bytes=-1', ranges([9, 10])],
    ['bytes=-10', ranges([0, 10])],
    ['bytes=-11', ranges([0, 10])],
    [`bytes=-${HUGE}`, ranges([0, 10])],
    ['BYTES=1-2', ranges([1, 3])],
    [' bytes = 1-2 ', ranges([1, 3])],
    ['bytes=0-1,4-5', ranges([0, 2], [4, 6])],
    ['bytes= 0-1 ,\t4-5 , ', ranges([0, 2], [4, 6])],
    ['bytes=,,4-5', ranges([4, 6])],
    ['bytes=4-5,0-1', ranges([4, 6], [0, 2])],
    ['bytes=0-5,2-3,2-3,-4', ranges([0, 6], [2, 4], [2, 4], [6, 10])],
    ['bytes=0-1,10-11,-0,4-5', ranges([0, 2], [4, 6])],
  ])('reads %s', (header, expected) => {
    expect(parseRange(header, 10)).toEqual(expected)
  })

  it.each([
    'bytes=10-',
    'bytes=10-11',
    'bytes=-0',
    `bytes=${HUGE}-`,
    `bytes=${HUGE}-${HUGE}`,
    'bytes=10-,-0,99-100',
  ])('finds %s unsatisfiable', (header) => {
    expect(parseRange(header, 10)).toBe('unsatisfiable')
  })

  it.each([
    undefined,
    '',
    'bytes',
    'bytes=',
    'bytes=,',
    'bytes=-',
    'bytes=--1',
    'bytes=1',
    'bytes=a-b',
    'bytes=1-2-3',
    'bytes=2-1',
    'bytes=0-1,2-1',
    'bytes=0-1;4-5',
    'bytes=1 -2',
    'bytes=0x1-2',
    'bytes=1.0-2',
    'bytes=+1-2',
    'bytes: 0-1',
    'items=0-1',
    'bytes=0-1,items=1-2',
  ])('ignores %j', (header) => {
    expect(parseRange(header, 10)).toBeUndefined()
  })
})

describe('parseRange', () => {
  it.each(['bytes=0-', 'bytes=0-0', 'bytes=-1', 'bytes=-0', 'bytes=5-', 'bytes=0-1,0-2'])(
    'ignores %s of an empty blob, which has no range to name',
    (header) => {
      expect(parseRange(header, 0)).toBeUndefined()
    },
  )

  it('accepts the 1,024 ranges of podman, and ignores more than anybody needs', () => {
    expect(parseRange(many(1024), 2 ** 40)).toHaveLength(1024)
    expect(parseRange(many(MAX_RANGES), 2 ** 40)).toEqual(expect.any(Array))
    expect(parseRange(`bytes=${'0-1,'.repeat(MAX_RANGES)}0-1`, 10)).toBeUndefined()
    expect(parseRange(`bytes=0-1${' '.repeat(200_000)}`, 10)).toBeUndefined()
  })

  it('keeps the given ranges in order, cut to the size', () => {
    const size = 1000
    const pair = fc
      .tuple(fc.nat(1500), fc.nat(1500))
      .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const)
    fc.assert(
      fc.property(fc.array(pair, { minLength: 1 }), (pairs) => {
        const header = `bytes=${pairs.map(([first, last]) => `${first}-${last}`).join(', ')}`
        const expected = pairs
          .filter(([first]) => first < size)
          .map(([first, last]) => ({ start: first, end: Math.min(last + 1, size) }))
        expect(parseRange(header, size)).toEqual(expected.length === 0 ? 'unsatisfiable' : expected)
      }),
    )
  })

  it('gives only ranges that exist, whatever the input', () => {
    const piece = fc.constantFrom('bytes', '=', '-', ',', ' ', '0', '1', '99', HUGE, 'x', '\t')
    const header = fc.array(piece, { maxLength: 12 }).map((pieces) => `bytes=${pieces.join('')}`)
    fc.assert(
      fc.property(fc.oneof(header, fc.string()), fc.nat(20), (text, size) => {
        const parsed = parseRange(text, size)
        if (!Array.isArray(parsed)) return
        expect(parsed.length).toBeGreaterThan(0)
        for (const { start, end } of parsed) {
          expect(start >= 0 && start < end && end <= size).toBe(true)
        }
      }),
      { numRuns: 500 },
    )
  })
})

describe('Content-Range', () => {
  it('includes its last byte', () => {
    expect(formatContentRange({ start: 0, end: 1 }, 10)).toBe('bytes 0-0/10')
    expect(formatContentRange({ start: 3, end: 10 }, undefined)).toBe('bytes 3-9/*')
    expect(unsatisfiedContentRange(10)).toBe('bytes */10')
  })

  it.each([
    ['bytes 0-0/1', { start: 0, end: 1, size: 1 }],
    ['bytes 0-9/*', { start: 0, end: 10, size: undefined }],
    ['  Bytes\t5-9/10 ', { start: 5, end: 10, size: 10 }],
  ])('%j is understood', (header, expected) => {
    expect(parseContentRange(header)).toEqual(expected)
  })

  it.each([
    undefined,
    '',
    'bytes */10',
    'bytes 5-4/10',
    'bytes 0-10/10',
    'bytes 0-/10',
    'bytes=0-1/10',
    'items 0-1/10',
    'bytes 0-1',
    'bytes 0-1/',
    'bytes 0-1/10, bytes 2-3/10',
    'bytes 0-9999999999999999/*',
    'bytes 0-1/9999999999999999',
    `bytes 0-1/${HUGE}`,
  ])('%j is not understood', (header) => {
    expect(parseContentRange(header)).toBeUndefined()
  })

  it('reads back what it wrote', () => {
    const numbers = fc.tuple(
      fc.nat(),
      fc.integer({ min: 1 }),
      fc.option(fc.nat(), { nil: undefined }),
    )
    fc.assert(
      fc.property(numbers, ([start, length, beyond]) => {
        const end = start + length
        const size = beyond === undefined ? undefined : end + beyond
        expect(parseContentRange(formatContentRange({ start, end }, size))).toEqual({
          start,
          end,
          size,
        })
      }),
    )
  })
})
