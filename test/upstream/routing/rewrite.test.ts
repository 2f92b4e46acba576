import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  MAX_RULE_LENGTH,
  replacementReferences,
  Rewrite,
  RewriteError,
  rewriteName,
} from '../../../src/upstream/routing/rewrite.ts'
import cases from '../../golden/go-regexp-cases.json' with { type: 'json' }

function rules(...pairs: [pattern: string, replacement: string][]): Rewrite[] {
  return pairs.map(([pattern, replacement]) => new Rewrite(pattern, replacement))
}

describe('Rewrite does what Go 1.26 does:', () => {
  // The table holds the answers of Go's own regexp.Compile and ReplaceAllString.
  test.each(cases.filter(({ output }) => output !== null))(
    '$pattern → $replacement on $input gives $output',
    ({ pattern, replacement, input, output, groups, names }) => {
      const rule = new Rewrite(pattern, replacement)
      expect(rule.apply(input)).toBe(output)
      expect(rule.groupCount).toBe(groups)
      expect(rule.groupNames).toEqual(names)
    },
  )

  test.each(cases.filter(({ output }) => output === null))(
    'the pattern $pattern is refused, as Go refuses it',
    ({ pattern, replacement }) => {
      expect(() => new Rewrite(pattern, replacement)).toThrow(RewriteError)
    },
  )
})

describe('Rewrite does what wharfie and K3s test:', () => {
  const busybox = 'library/busybox'
  test.each([
    [
      'a match of everything gets the prefix once',
      [['(.*)', 'docker/$1']],
      busybox,
      'docker/library/busybox',
    ],
    [
      'two disjoint rules, the first',
      [
        ['rancher/(.*)', 'rancher/prod/$1'],
        ['longhornio/(.*)', 'longhornio/prod/$1'],
      ],
      'rancher/pause',
      'rancher/prod/pause',
    ],
    [
      'two disjoint rules, the second',
      [
        ['rancher/(.*)', 'rancher/prod/$1'],
        ['longhornio/(.*)', 'longhornio/prod/$1'],
      ],
      'longhornio/engine',
      'longhornio/prod/engine',
    ],
    [
      'two disjoint rules, neither',
      [
        ['rancher/(.*)', 'rancher/prod/$1'],
        ['longhornio/(.*)', 'longhornio/prod/$1'],
      ],
      busybox,
      busybox,
    ],
    [
      'a registry as the first component',
      [['(.*)', 'docker.io/$1']],
      busybox,
      'docker.io/library/busybox',
    ],
    ['another registry', [['(.*)', 'registry.k8s.io/$1']], 'pause', 'registry.k8s.io/pause'],
    ['a prefix within the first component', [['(.*)', 'mirrored-$1']], 'pause', 'mirrored-pause'],
    ['a suffix', [['(.*)', '$1/docker']], busybox, 'library/busybox/docker'],
    ['every slash', [['/', '-']], 'team1/images/test', 'team1-images-test'],
    ['no rules', [], busybox, busybox],
  ] as [string, [string, string][], string, string][])('%s', (_, pairs, name, expected) => {
    expect(rewriteName(rules(...pairs), name).name).toBe(expected)
  })
})

describe('rewriteName', () => {
  test('applies the first rule that changes the name and reports it', () => {
    const never = new Rewrite('^x', 'y')
    const same = new Rewrite('^library', 'library')
    const first = new Rewrite('^library/', 'a/')
    const second = new Rewrite('^library/', 'b/')
    expect(rewriteName([never, same, first, second], 'library/x')).toEqual({
      name: 'a/x',
      rule: first,
    })
    expect(rewriteName([second, first], 'library/x')).toEqual({ name: 'b/x', rule: second })
  })

  test('does not chain rules', () => {
    expect(rewriteName(rules(['^a$', 'b'], ['^b$', 'c']), 'a').name).toBe('b')
  })

  test('skips a rule whose result is not a repository name', () => {
    const upper = new Rewrite('^a/', 'A:5000/')
    const good = new Rewrite('^a/', 'b/')
    expect(rewriteName([upper, good], 'a/x')).toEqual({ name: 'b/x', rule: good })
    expect(rewriteName([upper], 'a/x')).toEqual({ name: 'a/x' })
    expect(rewriteName(rules(['.*', '']), 'a/x')).toEqual({ name: 'a/x' })
  })

  test('keeps the name and reports no rule where none matches', () => {
    expect(rewriteName(rules(['^zzz', 'y']), 'library/x')).toEqual({ name: 'library/x' })
  })
})

describe('a rule that cannot be used is refused with the reason:', () => {
  test.each([
    ['(.*', "rewrite pattern '(.*': error parsing regexp: missing closing )"],
    ['(?=a)', 'Go regular expressions have no look-around'],
    ['(?<!a)b', 'Go regular expressions have no look-around'],
    ['(a)\\1', 'Go regular expressions have no back-references'],
    ['(?:(?:a{30}){30}){2}', 'invalid repeat count'],
    ['(?P<n>a)(?P<n>b)', 'duplicate capture group name'],
  ])('%s', (pattern, message) => {
    expect(() => new Rewrite(pattern, 'x')).toThrow(RewriteError)
    expect(() => new Rewrite(pattern, 'x')).toThrow(message)
  })

  test('a pattern or replacement longer than the limit', () => {
    const long = 'a'.repeat(MAX_RULE_LENGTH)
    expect(new Rewrite(long, long).apply(long)).toBe(long)
    expect(() => new Rewrite(`${long}a`, '')).toThrow('rewrite pattern of 1025 characters')
    expect(() => new Rewrite('a', `${long}a`)).toThrow('rewrite replacement of 1025 characters')
  })

  test('a short pattern that compiles to a huge program', () => {
    expect(() => new Rewrite('(?:[a-z]{999}){1}'.repeat(40), '')).toThrow('too costly')
  })
})

describe('replacementReferences', () => {
  test.each([
    ['plain', []],
    ['$1/${name}', ['1', 'name']],
    ['$1x', ['1x']],
    ['${1}x', ['1']],
    ['$1$1$10', ['1', '10']],
    ['$$1', []],
    ['$$$1', ['1']],
    ['${', []],
    ['${1', []],
    ['$-', []],
    ['$', []],
    ['$é', ['é']],
  ])('of %j are %j', (replacement, references) => {
    expect(replacementReferences(replacement)).toEqual(references)
  })
})

test('any rule that compiles can be applied to any string, and `$$`-escaped text is itself', () => {
  const template = fc.string({ unit: fc.constantFrom('$', '{', '}', '1', 'x', '-', 'é', '0', '_') })
  const text = fc.string({ unit: 'grapheme', maxLength: 40 })
  fc.assert(
    fc.property(template, text, (replacement, name) => {
      expect(typeof new Rewrite('([a-m]*)(é)?', replacement).apply(name)).toBe('string')
      expect(new Rewrite('^.*$', replacement.replaceAll('$', '$$$$')).apply('x')).toBe(replacement)
      expect(new Rewrite('(?s)(.)', '$1').apply(name)).toBe(name)
    }),
  )
})
