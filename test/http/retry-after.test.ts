import * as fc from 'fast-check'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { MAX_RETRY_AFTER_MS, parseRetryAfter } from '../../src/http/retry-after.ts'

const NOW = Date.UTC(1994, 10, 6, 8, 49, 30)

// A date without a zone must not be read as local time.
const zone = process.env['TZ']
beforeEach(() => {
  process.env['TZ'] = 'Asia/Tokyo'
})
afterEach(() => {
  if (zone === undefined) delete process.env['TZ']
  else process.env['TZ'] = zone
})

it.each([
  ['0', 0],
  ['7', 7000],
  [' 7 ', 7000],
  ['1.5', 1500],
  ['Sun, 06 Nov 1994 08:49:37 GMT', 7000],
  ['Sunday, 06-Nov-94 08:49:37 GMT', 7000],
  ['Sun Nov  6 08:49:37 1994', 7000],
  ['Sun, 06 Nov 1994 08:49:00 GMT', 0],
  ['9'.repeat(400), MAX_RETRY_AFTER_MS],
  ['Fri, 31 Dec 9999 23:59:59 GMT', MAX_RETRY_AFTER_MS],
])('Retry-After: %j is %d ms from now', (header, delayMs) => {
  expect(parseRetryAfter(header, NOW)).toBe(delayMs)
})

it.each([
  undefined,
  '',
  '-1',
  '1e3',
  '0x10',
  'soon',
  '5 seconds',
  'Nov 1994',
  'Sun, 99 Nov 1994 08:49:37 GMT',
  '1994-11-06T08:49:37Z',
  'Infinity',
  '1, 2',
])('Retry-After: %j is not understood', (header) => {
  expect(parseRetryAfter(header, NOW)).toBeUndefined()
})

it('Retry-After gives the moment that a date names, to the second', () => {
  const date = fc.date({
    min: new Date(NOW),
    max: new Date(NOW + MAX_RETRY_AFTER_MS),
    noInvalidDate: true,
  })
  fc.assert(
    fc.property(date, (when) => {
      const expected = Math.floor(when.getTime() / 1000) * 1000 - NOW
      expect(parseRetryAfter(when.toUTCString(), NOW)).toBe(expected)
    }),
  )
})

it('Retry-After gives a bounded delay or nothing for any string', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const delayMs = parseRetryAfter(text, NOW) ?? 0
      expect(delayMs >= 0 && delayMs <= MAX_RETRY_AFTER_MS).toBe(true)
    }),
  )
})
