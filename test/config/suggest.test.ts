import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { editDistance, suggest } from '../../src/config/suggest.ts'

test.each([
  ['lisen', 'listen'],
  ['litsen', 'listen'],
  ['Listen', 'listen'],
  ['cert-file', 'cert_file'],
  ['certFile', 'cert_file'],
  ['mirors', 'mirrors'],
])('%s suggests %s', (word, expected) => {
  expect(suggest(word, ['admin', 'listen', 'cert_file', 'mirrors'])).toBe(expected)
})

test.each(['x', 'proxy', 'capacity', ''])('%j is near nothing', (word) => {
  expect(suggest(word, ['admin', 'listen', 'mirrors'])).toBeUndefined()
})

test('edit distance is a metric: zero for equals, symmetric, at most the longer length', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
      expect(editDistance(a, a)).toBe(0)
      expect(editDistance(a, b)).toBe(editDistance(b, a))
      expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length))
      expect(editDistance(a, b) === 0).toBe(a === b)
    }),
  )
})
