import * as fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { cdnHops, hasLooped, withCdnLoop } from '../../src/http/cdn-loop.ts'

const ID = 'chandlery-0a1b'

describe('hasLooped', () => {
  it.each([
    [ID],
    [` ${ID} `],
    [ID.toUpperCase()],
    [`${ID};v=1`],
    [`${ID} ; v="a,b"`],
    [`other, ${ID}`],
    [`other;x="y, z",${ID};q`],
    [`a;x="1,";y="2,";z="3,", ${ID}`],
    [['other', `cdn.example:80, ${ID}`]],
    [`other;x="a, ${ID}`],
    [`other;x="a\\", ${ID}`],
  ])('finds a loop in %j', (header) => {
    expect(hasLooped(header, ID)).toBe(true)
  })

  it.each([
    [undefined],
    [''],
    ['other'],
    [`${ID}x`],
    [`x${ID}`],
    [`other;by=${ID}`],
    [`other;x="a, ${ID}, b"`],
    [`"${ID}"`],
    [`a;x="1";y=", ${ID}, "`],
    [['a', 'b']],
  ])('finds no loop in %j', (header) => {
    expect(hasLooped(header, ID)).toBe(false)
  })
})

describe('cdnHops', () => {
  it.each([
    [undefined, 0],
    ['', 0],
    [' , ,', 0],
    ['a', 1],
    ['a;x="1, 2, 3", b', 2],
    ['a;x="1, 2, 3', 4],
    [['a', 'b, a'], 3],
  ])('counts in %j: %d', (header, hops) => {
    expect(cdnHops(header)).toBe(hops)
  })
})

test('a header of any shape is read in a short time', () => {
  for (const part of ['"\\', '"', ',', '\\', '";', 'a;b="']) {
    const startedAt = performance.now()
    cdnHops(part.repeat(30_000))
    expect(performance.now() - startedAt).toBeLessThan(200)
  }
})

describe('withCdnLoop', () => {
  it.each([
    [undefined, ID],
    ['', ID],
    ['a;x="1,2"', `a;x="1,2", ${ID}`],
    [['a', ' b '], `a, b, ${ID}`],
  ])('makes of %j: %s', (header, expected) => {
    expect(withCdnLoop(header, ID)).toBe(expected)
  })

  it('lets every cache recognise itself, however many came after it', () => {
    const token = fc.stringMatching(/^[a-z0-9.-]{1,12}$/)
    fc.assert(
      fc.property(fc.uniqueArray(token, { minLength: 1 }), token, (ids, stranger) => {
        let header: string | undefined
        for (const id of ids) {
          expect(hasLooped(header, id)).toBe(false)
          header = withCdnLoop(header, id)
        }
        for (const id of ids) expect(hasLooped(header, id)).toBe(true)
        expect(hasLooped(header, stranger)).toBe(ids.includes(stranger))
      }),
    )
  })
})
