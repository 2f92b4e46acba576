import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Glob } from '../../../src/cache/policy/glob.ts'

describe('Glob', () => {
  it.each([
    ['docker.io/library/*', 'docker.io/library/alpine', true],
    ['docker.io/library/*', 'docker.io/library/', true],
    ['docker.io/library/*', 'docker.io/library/a/b', false],
    ['docker.io/**', 'docker.io/a/b/c', true],
    ['docker.io/**', 'docker.iox/a', false],
    ['**', '', true],
    ['**/nginx', 'ghcr.io/team/nginx', true],
    ['**/nginx', 'ghcr.io/team/nginx2', false],
    ['v*.*.*', 'v1.2.3', true],
    ['v*.*.*', 'v1.2', false],
    ['v*.*.*', 'v1.2.3-rc.1', true],
    ['***', 'a/b', true],
    ['a*c', 'abcbc', true],
    ['a.c', 'abc', false],
    ['[a]+', '[a]+', true],
    ['', '', true],
    ['', 'a', false],
  ])('of %s against %s is %s', (pattern, text, expected) => {
    expect(new Glob(pattern).matches(text)).toBe(expected)
  })

  it('agrees with the regular expression that means the same', () => {
    const part = fc.constantFrom('a', 'b', '/', '*', '**', '.')
    const letters = fc.array(fc.constantFrom('a', 'b', '/', '.'), { maxLength: 8 })
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), letters, (parts, characters) => {
        const pattern = parts.join('')
        const text = characters.join('')
        const source = pattern
          .replaceAll('.', String.raw`\.`)
          .replaceAll(/\*{2,}|\*/g, (run) => (run === '*' ? '[^/]*' : '.*'))
        expect(new Glob(pattern).matches(text)).toBe(new RegExp(`^${source}$`).test(text))
      }),
      { numRuns: 2_000 },
    )
  })

  it('does not take exponential time for a pattern of many stars', () => {
    const glob = new Glob('**a'.repeat(20))
    const started = performance.now()
    expect(glob.matches(`${'a'.repeat(380)}b`)).toBe(false)
    expect(performance.now() - started).toBeLessThan(500)
  })
})
