import { describe, expect, test } from 'vitest'
import { SizeClaims } from '../../../src/cache/fetch/size-claims.ts'

function claims(...sizes: (number | undefined)[]): SizeClaims {
  const all = new SizeClaims()
  for (const size of sizes) all.add(size)
  return all
}

describe('SizeClaims', () => {
  test('expect the largest size that anybody claims', () => {
    expect(claims(7, 100, 20).expected).toBe(100)
  })

  test.each([[undefined], [0], [5, undefined], [5, 0]])(
    'expect nothing where somebody knows no size: %j',
    (...sizes) => {
      expect(claims(...sizes).expected).toBeUndefined()
      expect(claims(...sizes).mayEndAt(77)).toBe(true)
    },
  )

  test('contradict a size that is none of them, unless there are none', () => {
    expect(claims(7, 100).contradict(100)).toBe(false)
    expect(claims(7, 100).contradict(101)).toBe(true)
    expect(claims(7, undefined).contradict(8)).toBe(true)
    expect(claims(undefined).contradict(8)).toBe(false)
  })

  test('let a body of unknown length end where one of them says', () => {
    expect(claims(7, 100).mayEndAt(7)).toBe(true)
    expect(claims(7, 100).mayEndAt(8)).toBe(false)
  })

  test('mean nothing once they are refuted', () => {
    const all = claims(7, 100)
    all.refute()
    expect(all.expected).toBeUndefined()
    expect(all.contradict(8)).toBe(false)
    expect(all.mayEndAt(8)).toBe(true)
  })

  test('are bounded: of too many, none is expected', () => {
    expect(claims(...Array.from({ length: 100 }, (_, index) => index + 1)).expected).toBeUndefined()
  })
})
