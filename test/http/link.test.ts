import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatNextLink, nextLink, parseLinks } from '../../src/http/link.ts'

function read(header: string | readonly string[] | undefined): [string, Record<string, string>][] {
  return parseLinks(header).map(({ target, params }) => [target, Object.fromEntries(params)])
}

describe('parseLinks', () => {
  it.each<[string | string[] | undefined, [string, Record<string, string>][]]>([
    [undefined, []],
    ['', []],
    ['</v2/a/tags/list?last=b&n=2>; rel="next"', [['/v2/a/tags/list?last=b&n=2', { rel: 'next' }]]],
    ['<x>;rel=next', [['x', { rel: 'next' }]]],
    ['< x >', [['x', {}]]],
    ['<>; rel=next', [['', { rel: 'next' }]]],
    ['<a,b;c>; Rel="next"; title="x, <y>; z"', [['a,b;c', { rel: 'next', title: 'x, <y>; z' }]]],
    [
      '<a>; rel=prev, <b>; rel="next"',
      [
        ['a', { rel: 'prev' }],
        ['b', { rel: 'next' }],
      ],
    ],
    [
      ['<a>; rel=prev', '<b>; rel=next'],
      [
        ['a', { rel: 'prev' }],
        ['b', { rel: 'next' }],
      ],
    ],
    ['<a>; rel=one; rel=two', [['a', { rel: 'one' }]]],
    ['<a> ; rel = next ;; flag ; x', [['a', { rel: 'next', flag: '', x: '' }]]],
    ['junk, <a>; rel=next', [['a', { rel: 'next' }]]],
    ['<never closed; rel=next', []],
    ['/v2/a; rel=next', []],
  ])('reads %j', (header, expected) => {
    expect(read(header)).toEqual(expected)
  })

  it('reads a bounded number of links of bounded length', () => {
    expect(parseLinks('<a>,'.repeat(1000))).toHaveLength(64)
    expect(parseLinks(`<${'a'.repeat(20_000)}>`)).toEqual([])
  })

  it('never throws, whatever the input', () => {
    const piece = fc.constantFrom('<', '>', ';', ',', '=', '"', '\\', ' ', 'rel', 'next', 'é')
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        for (const { target } of parseLinks(pieces.join(''))) expect(target).not.toContain('>')
      }),
      { numRuns: 1000 },
    )
  })
})

describe('nextLink', () => {
  it.each([
    ['<a>; rel="prev", <b>; rel="next", <c>; rel=next', 'b'],
    ['<a>; rel="last NEXT"', 'a'],
    ['<a>; rel="nextish"', undefined],
    ['<a>; title="next"', undefined],
    [undefined, undefined],
  ])('finds in %j: %s', (header, target) => {
    expect(nextLink(header)).toBe(target)
  })

  it('reads what formatNextLink wrote', () => {
    expect(formatNextLink('/v2/a/tags/list?n=2&last=b%3A')).toBe(
      '</v2/a/tags/list?n=2&last=b%3A>; rel="next"',
    )
    expect(formatNextLink('\ud800')).toBe('<%EF%BF%BD>; rel="next"')
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const header = formatNextLink(text)
        expect(header).toMatch(/^<[\x21-\x7e]*>; rel="next"$/)
        const target = nextLink(header)
        if (!text.includes('%')) expect(decodeURIComponent(target ?? '')).toBe(text.toWellFormed())
      }),
    )
  })
})
