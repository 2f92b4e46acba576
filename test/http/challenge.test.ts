import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseChallenges } from '../../src/http/challenge.ts'

type Plain = [scheme: string, params: Record<string, string>, token68?: string]

function read(header: string | readonly string[] | undefined): Plain[] {
  return parseChallenges(header).map(({ scheme, params, token68 }) =>
    token68 === undefined
      ? [scheme, Object.fromEntries(params)]
      : [scheme, Object.fromEntries(params), token68],
  )
}

const HUB: Plain = [
  'bearer',
  {
    realm: 'https://auth.docker.io/token',
    service: 'registry.docker.io',
    scope: 'repository:library/alpine:pull,push repository:b:pull',
  },
]

describe('parseChallenges', () => {
  it.each<[string | string[] | undefined, Plain[]]>([
    [undefined, []],
    ['', []],
    [' , ,\t', []],
    [[], []],
    ['Basic', [['basic', {}]]],
    ['Basic realm="Registry"', [['basic', { realm: 'Registry' }]]],
    ['BASIC REALM=registry', [['basic', { realm: 'registry' }]]],
    ['Basic realm = "x" , charset="UTF-8"', [['basic', { realm: 'x', charset: 'UTF-8' }]]],
    ['Basic realm=""', [['basic', { realm: '' }]]],
    [
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push repository:b:pull"',
      [HUB],
    ],
    [
      'Bearer realm="https://h/t?a=1&b=\\"2\\"",error="insufficient_scope"',
      [['bearer', { realm: 'https://h/t?a=1&b="2"', error: 'insufficient_scope' }]],
    ],
    ['Bearer realm="a\\\\b\\c"', [['bearer', { realm: 'a\\bc' }]]],
    // Several in one line.
    [
      'Basic realm="a", Bearer realm="b"',
      [
        ['basic', { realm: 'a' }],
        ['bearer', { realm: 'b' }],
      ],
    ],
    [
      'Bearer realm="b", service="s", Basic realm="a, b", Negotiate',
      [
        ['bearer', { realm: 'b', service: 's' }],
        ['basic', { realm: 'a, b' }],
        ['negotiate', {}],
      ],
    ],
    [
      'Negotiate, NTLM, Basic realm=x',
      [
        ['negotiate', {}],
        ['ntlm', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    [
      'Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"',
      [
        ['newauth', { realm: 'apps', type: '1', title: 'Login to "apps"' }],
        ['basic', { realm: 'simple' }],
      ],
    ],
    // token68.
    ['Negotiate oYG3MIG0oAMKAQ==', [['negotiate', {}, 'oYG3MIG0oAMKAQ==']]],
    [
      'Negotiate a/b+c~d.e-f_g=, Basic realm=x',
      [
        ['negotiate', {}, 'a/b+c~d.e-f_g='],
        ['basic', { realm: 'x' }],
      ],
    ],
    // Several lines.
    [
      ['Basic realm="a"', 'Bearer realm="b"'],
      [
        ['basic', { realm: 'a' }],
        ['bearer', { realm: 'b' }],
      ],
    ],
    [['Bearer realm="b"', 'service="s"'], [['bearer', { realm: 'b', service: 's' }]]],
    [
      ['Bearer realm="never closed', 'Basic realm="a"'],
      [
        ['bearer', { realm: 'never closed' }],
        ['basic', { realm: 'a' }],
      ],
    ],
    // Seen in the field.
    [
      'Bearer realm=https://h:5000/token,service=s',
      [['bearer', { realm: 'https://h:5000/token', service: 's' }]],
    ],
    [
      'Bearer realm="b" service="s" scope="x"',
      [['bearer', { realm: 'b', service: 's', scope: 'x' }]],
    ],
    ['Bearer realm="b",,service="s",', [['bearer', { realm: 'b', service: 's' }]]],
    ['Bearer realm="b"; service="s"', [['bearer', { realm: 'b', service: 's' }]]],
    ['Bearer realm="b",realm="evil"', [['bearer', { realm: 'b' }]]],
    ['realm="x"', []],
    ['"Basic realm=x", Bearer realm="b"', [['bearer', { realm: 'b' }]]],
    ['=, Basic realm=x', [['basic', { realm: 'x' }]]],
    ['Basic realm="open \\', [['basic', { realm: 'open ' }]]],
    ['Basic realm=', [['basic', {}, 'realm=']]],
  ])('%j', (header, expected) => {
    expect(read(header)).toEqual(expected)
  })

  it('leaves out a line of absurd length and reads the others', () => {
    expect(read([`Bearer realm="${'a'.repeat(20_000)}"`, 'Basic realm="x"'])).toEqual([
      ['basic', { realm: 'x' }],
    ])
  })

  it('stops at a bounded number of challenges and parameters', () => {
    expect(parseChallenges('Basic, '.repeat(500))).toHaveLength(32)
    const params = Array.from({ length: 500 }, (_, index) => `p${index}=1`).join(',')
    expect(parseChallenges(`Bearer ${params}`)[0]?.params.size).toBe(32)
  })

  it('reads any challenges that were written by the grammar', () => {
    const token = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,10}$/)
    const value = fc.string({ unit: 'grapheme-ascii', maxLength: 20 })
    const params = fc.uniqueArray(fc.tuple(token, value), {
      selector: ([name]) => name.toLowerCase(),
      maxLength: 5,
    })
    const token68 = fc.stringMatching(/^[A-Za-z0-9._~+/-]{1,10}={0,2}$/)
    const challenge = fc.oneof(
      fc.record({ scheme: token, params }),
      fc.record({ scheme: token, token68 }),
    )
    const comma = fc.constantFrom(',', ', ', ' , ', ',\t,')
    fc.assert(
      fc.property(fc.array(challenge, { maxLength: 5 }), comma, (challenges, separator) => {
        const written = challenges.map((one) => {
          if ('token68' in one) return `${one.scheme} ${one.token68}`
          const list = one.params.map(
            ([name, text]) => `${name}="${text.replaceAll(/["\\]/g, '\\$&')}"`,
          )
          return [one.scheme, list.join(separator)].filter((part) => part !== '').join(' ')
        })
        const expected: Plain[] = challenges.map((one) =>
          'token68' in one
            ? [one.scheme.toLowerCase(), {}, one.token68]
            : [
                one.scheme.toLowerCase(),
                Object.fromEntries(one.params.map(([name, text]) => [name.toLowerCase(), text])),
              ],
        )
        expect(read(written.join(separator))).toEqual(expected)
        expect(read(written)).toEqual(expected)
      }),
      { numRuns: 300 },
    )
  })

  it('never throws and never hangs, whatever the input', () => {
    const piece = fc.constantFrom(
      'Bearer',
      'realm',
      '=',
      '"',
      '\\',
      ',',
      ' ',
      '\t',
      'x',
      ';',
      '=="',
      'é',
      '\0',
    )
    const sloppy = fc.array(piece, { maxLength: 40 }).map((pieces) => pieces.join(''))
    fc.assert(
      fc.property(fc.oneof(sloppy, fc.string({ unit: 'binary' })), (text) => {
        for (const { scheme } of parseChallenges(text)) expect(scheme).toMatch(/^[^\s",=]+$/)
      }),
      { numRuns: 1000 },
    )
    const started = performance.now()
    for (const nasty of ['"', '\\', '"\\', 'a=', 'a ', 'a="', '=', 'a "'])
      parseChallenges(nasty.repeat(16_384 / nasty.length))
    expect(performance.now() - started).toBeLessThan(1000)
  })
})
