import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ifRangeHolds, noneMatch } from '../../src/http/conditions.ts'

const ETAG = '"sha256:ab"'

describe('noneMatch', () => {
  it.each([
    undefined,
    '',
    '"sha256:cd"',
    '"sha256:cd", "x,y"',
    '"',
    'sha256:abc',
    '"x, sha256:ab, y"',
    '"SHA256:AB"',
  ])('holds for %j, so that the content is sent', (header) => {
    expect(noneMatch(header, ETAG)).toBe(true)
  })

  it.each([
    '*',
    ' * ',
    ETAG,
    ` ${ETAG} `,
    `W/${ETAG}`,
    `"x,y",\t${ETAG}`,
    `"a"${ETAG}`,
    'sha256:ab',
    `"",${ETAG}`,
  ])('does not hold for %j, so that the content is not sent', (header) => {
    expect(noneMatch(header, ETAG)).toBe(false)
  })

  it('compares weakly', () => {
    expect(noneMatch(ETAG, `W/${ETAG}`)).toBe(false)
  })

  it('finds the tag anywhere in a list', () => {
    const tag = fc.stringMatching(/^(W\/)?"[a-z,: ]{0,8}"$/)
    fc.assert(
      fc.property(fc.array(tag), fc.array(tag), (before, after) => {
        expect(noneMatch([...before, ETAG, ...after].join(', '), ETAG)).toBe(false)
        expect(noneMatch([...before, ...after].join(', '), ETAG)).toBe(true)
      }),
    )
  })
})

describe('ifRangeHolds', () => {
  it.each([
    [undefined, ETAG, true],
    [ETAG, ETAG, true],
    [` ${ETAG}`, ETAG, true],
    [`W/${ETAG}`, ETAG, false],
    [`W/${ETAG}`, `W/${ETAG}`, false],
    ['"other"', ETAG, false],
    ['sha256:ab', ETAG, false],
    ['*', ETAG, false],
    ['', ETAG, false],
    ['Sun, 06 Nov 1994 08:49:37 GMT', ETAG, false],
  ])('of %j for %s is %s', (header, etag, holds) => {
    expect(ifRangeHolds(header, etag)).toBe(holds)
  })
})
