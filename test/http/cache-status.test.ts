import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type CacheOutcome, formatCacheStatus } from '../../src/http/cache-status.ts'

describe('formatCacheStatus', () => {
  it.each<[CacheOutcome, string]>([
    [{ state: 'hit' }, 'chandlery; hit'],
    [{ state: 'hit', ttlSeconds: 41 }, 'chandlery; hit; ttl=41'],
    [
      { state: 'stale', ttlSeconds: -12, detail: 'revalidating' },
      'chandlery; hit; ttl=-12; detail=revalidating',
    ],
    [
      { state: 'stale', detail: 'upstream-error', fwdStatus: 503 },
      'chandlery; hit; detail=upstream-error',
    ],
    [
      { state: 'revalidated', fwdStatus: 200 },
      'chandlery; fwd=stale; fwd-status=200; detail=unchanged',
    ],
    [
      { state: 'expired', fwdStatus: 200, stored: true },
      'chandlery; fwd=stale; fwd-status=200; stored',
    ],
    [
      { state: 'miss', fwdStatus: 200, stored: true },
      'chandlery; fwd=uri-miss; fwd-status=200; stored',
    ],
    [{ state: 'miss', stored: false }, 'chandlery; fwd=uri-miss'],
    [{ state: 'collapsed' }, 'chandlery; fwd=uri-miss; collapsed'],
    [{ state: 'bypass' }, 'chandlery; fwd=bypass'],
  ])('writes %j as its header', (outcome, expected) => {
    expect(formatCacheStatus(outcome)).toBe(expected)
  })

  it.each([
    ['upstream-gone', 'upstream-gone'],
    ['a/b:c', 'a/b:c'],
    ['', '""'],
    ['1st', '"1st"'],
    ['two words', '"two words"'],
    ['say "no"\\', '"say \\"no\\"\\\\"'],
    ['é\r\nX: y', '"???X: y"'],
  ])('writes the detail %j as %s', (detail, written) => {
    expect(formatCacheStatus({ state: 'hit', detail })).toBe(`chandlery; hit; detail=${written}`)
  })

  it.each([
    [1.9, 1],
    [-1.9, -1],
    [-0.5, 0],
    [Infinity, 999_999_999_999_999],
    [-Infinity, -999_999_999_999_999],
    [Number.NaN, 0],
  ])('writes a ttl of %d as %d', (ttlSeconds, written) => {
    expect(formatCacheStatus({ state: 'hit', ttlSeconds })).toBe(`chandlery; hit; ttl=${written}`)
  })

  it('shortens a detail that is long', () => {
    const header = formatCacheStatus({ state: 'hit', detail: 'a'.repeat(100_000) })
    expect(header.length).toBeLessThan(600)
  })

  it('writes a line of visible ASCII, whatever the detail is', () => {
    const member =
      /^chandlery; hit; detail=(?:[A-Za-z*][\w!#$%&'*+.^`|~:/-]*|"(?:[ !#-[\]-~]|\\["\\])*")$/
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (detail) => {
        const header = formatCacheStatus({ state: 'hit', detail })
        expect(header).toMatch(member)
      }),
    )
  })
})
