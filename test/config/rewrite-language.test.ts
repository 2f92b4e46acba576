import * as fc from 'fast-check'
import { RE2JS } from 're2js'
import { describe, expect, test } from 'vitest'
import { findNames, PatternNames } from '../../src/config/rewrite-language.ts'
import { isRepositoryName } from '../../src/oci/reference.ts'

const budget = () => ({ steps: 2_000_000 })

function accepts(pattern: PatternNames, text: string): boolean {
  let state = pattern.start
  for (let i = 0; i < text.length; i += 1) state = pattern.step(state, text.charCodeAt(i), budget())
  return pattern.accepts(state, budget())
}

const atom = fc.constantFrom(
  'a',
  'b',
  '1',
  '/',
  '-',
  String.raw`\.`,
  '.',
  '[a-c]',
  '[^/]',
  String.raw`\w`,
  String.raw`\b`,
  String.raw`\B`,
  '^',
  '$',
  'A',
  '(?i:B)',
  String.raw`\d`,
  String.raw`\A`,
  String.raw`\z`,
  '[[:alpha:]]',
  String.raw`\pL`,
  ':',
  '(?i:k)',
  'x{2}',
  '(?m:^)',
  '(?m:$)',
  '_',
  '(?s:.)',
  '[a-c/]',
)
const pattern = fc.letrec<{ node: string }>((tie) => ({
  node: fc.oneof(
    { depthSize: 'small' },
    atom,
    fc.array(tie('node'), { minLength: 1, maxLength: 4 }).map((parts) => parts.join('')),
    fc.tuple(tie('node'), tie('node')).map(([a, b]) => `(${a}|${b})`),
    fc
      .tuple(tie('node'), fc.constantFrom('*', '+', '?', '*?', '{0,2}'))
      .map(([a, q]) => `(?:${a})${q}`),
  ),
})).node
const nameText = fc.string({
  unit: fc.constantFrom('a', 'b', 'c', 'k', 'x', '1', '/', '-', '.', '_'),
  maxLength: 8,
})

test('the automaton finds a pattern in exactly the strings in which re2js finds it', () => {
  fc.assert(
    fc.property(pattern, fc.array(nameText, { minLength: 1, maxLength: 6 }), (source, texts) => {
      const automaton = new PatternNames(source)
      const compiled = RE2JS.compile(source)
      for (const text of texts) expect(accepts(automaton, text)).toBe(compiled.matcher(text).find())
    }),
    { numRuns: 500 },
  )
})

test('every name found is a repository name that is matched as asked', () => {
  fc.assert(
    fc.property(pattern, pattern, (a, b) => {
      const [one, two] = [new PatternNames(a), new PatternNames(b)]
      const { names } = findNames({
        matchedBy: [one],
        notMatchedBy: [two],
        components: 1,
        limit: 5,
        budget: budget(),
      })
      for (const name of names) {
        expect(isRepositoryName(name)).toBe(true)
        expect(RE2JS.compile(a).matcher(name).find()).toBe(true)
        expect(RE2JS.compile(b).matcher(name).find()).toBe(false)
      }
    }),
    { numRuns: 200 },
  )
})

test('when no name is found after a complete search, no sampled name matches', () => {
  fc.assert(
    fc.property(pattern, fc.array(nameText, { maxLength: 20 }), (source, texts) => {
      const { names, complete } = findNames({
        matchedBy: [new PatternNames(source)],
        components: 1,
        limit: 1,
        budget: budget(),
      })
      fc.pre(complete && names.length === 0)
      const compiled = RE2JS.compile(source)
      for (const text of texts.filter(isRepositoryName)) {
        expect(compiled.matcher(text).find()).toBe(false)
      }
    }),
    { numRuns: 300 },
  )
})

describe('a search', () => {
  test('leaves out names of one component where two are needed', () => {
    const search = { matchedBy: [new PatternNames('^[a-z]+$')], limit: 1, budget: budget() }
    expect(findNames({ ...search, components: 1 }).names).toEqual(['a'])
    expect(findNames({ ...search, components: 2 })).toEqual({ names: [], complete: true })
  })

  test('that runs out of its budget says that it is not complete', () => {
    const matchedBy = [new PatternNames('(a|b){0,200}:(a|b){0,200}')]
    expect(findNames({ matchedBy, components: 1, limit: 1, budget: { steps: 500 } })).toEqual({
      names: [],
      complete: false,
    })
  })
})
