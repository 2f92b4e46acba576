import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  formatDuration,
  MAX_DURATION_MS,
  parseDuration,
  parseSize,
} from '../../src/config/units.ts'
import { ValueError } from '../../src/config/value-error.ts'

describe('a duration', () => {
  test.each([
    ['0s', 0],
    ['500ms', 500],
    ['10s', 10_000],
    ['1m', 60_000],
    ['2h30m', 9_000_000],
    ['1d', 86_400_000],
    ['90m', 5_400_000],
    ['1d2h3m4s5ms', 93_784_005],
  ])('of %s is %d ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms)
  })

  test.each([
    '',
    '5',
    '5x',
    '-1s',
    '1.5h',
    '1 s',
    '1S',
    '30m2h',
    '1s1s',
    ' 1s',
    '1s\n',
    '٣s',
    '4000d',
  ])('of %j is refused with a message that shows what is right', (text) => {
    expect(() => parseDuration(text)).toThrow(/such as 30s|at most 3650d/)
    expect(() => parseDuration(text)).toThrow(ValueError)
  })

  test('reads back from what is printed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: MAX_DURATION_MS }), (ms) => {
        expect(parseDuration(formatDuration(ms))).toBe(ms)
      }),
    )
  })

  test('that is any other text is refused with a ValueError and nothing else', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        fc.pre(!/^(?:\d+(?:d|h|m|s|ms))+$/.test(text))
        expect(() => parseDuration(text)).toThrow(ValueError)
      }),
    )
  })
})

describe('a size', () => {
  test.each([
    ['0B', 0],
    ['8MiB', 8_388_608],
    ['50GiB', 53_687_091_200],
    ['5GB', 5_000_000_000],
    ['64kB', 64_000],
    ['64KiB', 65_536],
    ['1TiB', 1_099_511_627_776],
  ])('of %s is %d bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes)
  })

  test.each(['', '8', '8M', '8mib', '8 MiB', '1.5GiB', '-1B', '9999999TiB', 'MiB'])(
    'of %j is refused',
    (text) => {
      expect(() => parseSize(text)).toThrow(ValueError)
    },
  )
})
