import { expect, it } from 'vitest'
import { ageSeconds } from '../../src/http/age.ts'

it.each([
  [1_000_000, 0],
  [1_000_999, 0],
  [1_001_000, 1],
  [1_061_999, 61],
  [999_000, 0],
  [Infinity, 2 ** 31],
])('what is from 1000000 is at %d so many seconds old: %d', (now, seconds) => {
  expect(ageSeconds(1_000_000, now)).toBe(seconds)
})
