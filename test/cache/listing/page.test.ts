import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pageOf, parsePage } from '../../../src/cache/listing/page.ts'

describe('parsePage', () => {
  it.each([
    ['', {}],
    ['n=5', { n: 5 }],
    ['n=0', { n: 0 }],
    ['last=v1%2B', { last: 'v1+' }],
    ['n=2&last=a&ns=docker.io', { n: 2, last: 'a' }],
    ['last=', {}],
  ])('reads %j', (query, expected) => {
    expect(parsePage(query)).toEqual(expected)
  })

  it.each(['n=', 'n=-1', 'n=1.5', 'n=x', 'n=1e3', 'n=99999999999999999999'])(
    'refuses %s',
    (query) => {
      expect(() => parsePage(query)).toThrow(
        expect.objectContaining({ code: 'PAGINATION_NUMBER_INVALID', status: 400 }),
      )
    },
  )
})

describe('pageOf', () => {
  it('names no next page at the end', () => {
    expect(pageOf(['a', 'b'], { n: 2 })).toEqual({ items: ['a', 'b'] })
    expect(pageOf(['a', 'b'], { last: 'b' })).toEqual({ items: [] })
    expect(pageOf(['a'], { n: 0 })).toEqual({ items: [] })
  })

  it('covers the whole list, page by page, whatever n is', () => {
    const tag = fc.stringMatching(/^[\w][\w.+&=-]{0,4}$/)
    const tags = fc.uniqueArray(tag, { maxLength: 20 })
    fc.assert(
      fc.property(tags, fc.integer({ min: 1, max: 7 }), (list, n) => {
        const sorted = list.toSorted()
        const seen: string[] = []
        let query: string | undefined = `n=${n}`
        while (query !== undefined) {
          const page = pageOf(sorted, parsePage(query))
          expect(page.items.length).toBeLessThanOrEqual(n)
          seen.push(...page.items)
          query = page.next
        }
        expect(seen).toEqual(sorted)
      }),
    )
  })
})
