import { describe, expect, test } from 'vitest'
import type { Mirror } from '../../src/config/config.ts'
import { lintRewrites } from '../../src/config/lint.ts'
import { mirrorFrom } from '../support/mirrors.ts'

function mirror(rules: Record<string, string>, registry = 'docker.io'): Mirror {
  const written = { endpoint: ['https://mirror.example.com'], rewrite: rules }
  const { rewrites, ...mirrorOf } = mirrorFrom(registry, written)
  return {
    ...mirrorOf,
    rewrites: rewrites.map((rule, i) => ({
      ...rule,
      place: { file: 'f.yaml', line: i + 1, column: 5 },
    })),
  }
}

const messages = (rules: Record<string, string>, registry?: string) =>
  lintRewrites([mirror(rules, registry)]).map(({ message }) => message)

describe('rules without a mistake', () => {
  test.each<[Record<string, string>, string?]>([
    [{ '^cp/(.+)$': 'team/$1' }],
    [{ '(.*)': 'docker/$1' }],
    [{ '^rancher/(.*)$': 'mirrors/rancher/$1', '^longhornio/(.*)$': 'mirrors/longhorn/$1' }],
    [{ '(.*)': 'registry.k8s.io/$1' }, 'registry.k8s.io'],
    [{ '(.*)': '$1/docker' }],
    [{ '/': '-' }, 'registry.local'],
    [{ '^(?P<team>[^/]+)/(?P<app>.+)$': 'x/${team}/$app' }],
    [{ '^library/': '' }],
    [{ '^(?i)LIBRARY/(.*)$': 'official/$1' }],
  ])('such as %j cause no warning', (rules, registry) => {
    expect(messages(rules, registry)).toEqual([])
  })
})

describe('a reference without a group', () => {
  test.each([
    [{ '^cp/.+$': 'team/$1' }, 'no group "1", so nothing is inserted; it has none'],
    [{ '^cp/(.+)$': 'team/a$2' }, 'no group "2", so nothing is inserted; it has 1'],
    [{ '^cp/(.+)$': 'team/a$1x' }, 'write ${1}x for group 1'],
    [{ '^cp/(.+)$': 'team/a${name}' }, '(?P<name>…)'],
  ])('is reported: %j', (rules, expected) => {
    expect(messages(rules).join('\n')).toContain(expected)
  })

  test('is not seen in $$, which is a dollar sign', () => {
    expect(messages({ '^cp/(.+)$': 'team/$$1' }).join()).not.toContain('no group')
  })
})

describe('a rule that can never match', () => {
  test.each([
    ['^Library/', 'lower case'],
    ['^library/alpine:latest$', 'without registry, tag and digest'],
    ['^docker.io:443/(.*)$', 'leave the registry out'],
    ['^alpine$', 'library/'],
    ['^/library', 'no name has this form'],
    ['a//b', 'no name has this form'],
    ['a b', 'no name has this form'],
    ['x^y', 'no name has this form'],
    ['_-', 'no name has this form'],
  ])('is reported: %s', (pattern, hint) => {
    const [message, ...rest] = messages({ [pattern]: 'x/y' })
    expect(rest).toEqual([])
    expect(message).toMatch(/^can never match: /)
    expect(message).toContain(hint)
  })

  test.each(['^alpine$', '(?i)^LIBRARY', '[A-Za-z]+', 'a.b', '\\.', '^[^/]+$', 'a__b', 'a---b'])(
    'is not claimed of %s, which can match on another registry',
    (pattern) => {
      expect(messages({ [pattern]: 'x' }, 'ghcr.io').join()).not.toContain('never')
    },
  )
})

test('a pattern that begins with its registry is pointed out, though such names are legal', () => {
  expect(messages({ [String.raw`^docker\.io/(.*)$`]: '$1/x' })).toEqual([
    'begins with the registry: a rule sees only the name; leave docker.io/ out',
  ])
})

describe('overlapping rules', () => {
  test('are reported with a name that two of them rewrite differently', () => {
    expect(messages({ '^team/(.*)$': 'a/$1', app$: 'b' })).toEqual([
      'overlaps with "^team/(.*)$" on line 1: both rewrite "team/app", and the earlier one wins (K3s would pick either)',
    ])
  })

  test('are reported where a rule stands behind one that matches all that it matches', () => {
    expect(messages({ '(.*)': 'a/$1', '^team/(.*)$': 'b/$1' })[0]).toMatch(
      /^comes too late: every name it matches, such as "team\/.*", is matched by "\(\.\*\)" on line 1/,
    )
  })

  test('are not reported where they lead to the same name', () => {
    expect(messages({ '^team/(.*)$': 'a/$1', '^team/app': 'a/app' })).toEqual([])
  })

  test('are not reported where the earlier one is passed over', () => {
    expect(messages({ '^team/(.*)$': 'A/$1', '^team/app': 'b' })).toEqual([
      expect.stringContaining('which is not a valid name'),
    ])
  })
})

test('a result that is not a valid name is shown by an example', () => {
  expect(messages({ '^team/(.*)$': 'Team/$1' })).toEqual([
    '"team/a" would become "Team/a", which is not a valid name, so the rule is skipped for it; a name is lower-case components separated by slashes',
  ])
})

test('rules without an endpoint never apply', () => {
  const [problem] = lintRewrites([{ ...mirror({ '^a/': 'b/' }), endpoints: [] }])
  expect(problem?.message).toContain('rules but no endpoint')
})

test('costly patterns are linted in a short time', () => {
  const rules = Object.fromEntries(
    Array.from({ length: 30 }, (_, i) => [`(a|b|[c-f]+){0,40}${i}(.*(x|y)){3}`, 'q/$1']),
  )
  const before = performance.now()
  lintRewrites([mirror(rules)])
  expect(performance.now() - before).toBeLessThan(10_000)
})
