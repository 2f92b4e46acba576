import { describe, expect, test } from 'vitest'
import { isComing, missingPiece, urgentPiece } from '../../../src/cache/fetch/piece-plan.ts'
import { Intervals } from '../../../src/http/intervals.ts'

const MIB = 1024 * 1024
const all = { start: 0, end: Infinity }

function plan(
  have: [number, number][],
  running: [number, number][] = [],
  size: number | undefined = 100 * MIB,
) {
  return {
    have: new Intervals(have.map(([start, end]) => ({ start, end }))),
    running: running.map(([start, end]) => ({ pendingFrom: start, at: start, end })),
    size,
    pieceBytes: 8 * MIB,
  }
}

describe('a missing part', () => {
  test.each([
    ['nothing is here', plan([]), { start: 0, end: 8 * MIB }],
    ['the front is here', plan([[0, 5]]), { start: 5, end: 8 * MIB + 5 }],
    ['the front is on its way', plan([], [[0, 8 * MIB]]), { start: 8 * MIB, end: 16 * MIB }],
    ['what follows is here', plan([[MIB, 100 * MIB]]), { start: 0, end: MIB }],
    ['what follows is on its way', plan([], [[MIB, 9 * MIB]]), { start: 0, end: MIB }],
    ['only the end is missing', plan([[0, 99 * MIB]]), { start: 99 * MIB, end: 100 * MIB }],
    ['everything is here', plan([[0, 100 * MIB]]), undefined],
    ['everything is here or on its way', plan([[0, MIB]], [[MIB, 100 * MIB]]), undefined],
    ['it is empty', plan([], [], 0), undefined],
  ])('is requested in pieces from the front: %s', (_what, given, piece) => {
    expect(missingPiece(given, all)).toEqual(piece)
  })

  test('of a range is requested within the range', () => {
    expect(missingPiece(plan([[0, 50]]), { start: 20, end: 70 })).toEqual({ start: 50, end: 70 })
    expect(missingPiece(plan([[0, 70]]), { start: 20, end: 70 })).toBeUndefined()
  })

  test('of a blob of unknown size has no end but its piece', () => {
    const given = { ...plan([]), size: undefined }
    expect(missingPiece(given, all)).toEqual({ start: 0, end: 8 * MIB })
  })
})

describe('a part that a reader waits for', () => {
  const far = { start: 60 * MIB, end: 60 * MIB + 1000 }

  test('is requested first, and no more than the reader wants', () => {
    expect(urgentPiece(plan([[0, MIB]], [[MIB, 9 * MIB]]), [far])).toEqual(far)
  })

  test('is left to a request that is about to bring it, but not to one that is far behind', () => {
    const given = plan([], [[0, 100 * MIB]])
    expect(urgentPiece(given, [{ start: 100, end: 200 }])).toBeUndefined()
    expect(urgentPiece(given, [far])).toEqual(far)
    expect(isComing([{ pendingFrom: 0, at: 50, end: 100 }], 20)).toBe(true) // on its way to the disk
  })

  test('begins after what is there, and is empty where all of it is', () => {
    expect(urgentPiece(plan([[60 * MIB, 60 * MIB + 10]]), [far])?.start).toBe(60 * MIB + 10)
    expect(urgentPiece(plan([[60 * MIB, 61 * MIB]]), [far])).toBeUndefined()
    expect(urgentPiece(plan([]), [{ start: 100 * MIB, end: Infinity }])).toBeUndefined()
  })
})
