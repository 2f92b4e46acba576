import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatProblem } from '../../src/config/problem.ts'
import { readRegistriesFile } from '../../src/config/registries-file.ts'

const read = (text: string) => readRegistriesFile('r.yaml', text)
const lines = (text: string) => read(text).problems.map(formatProblem)

function mirror(text: string, registry = 'docker.io') {
  return read(text).mirrors.find((each) => each.registry === registry)
}

test('a usual file is read without a problem', async () => {
  const { mirrors, configs, problems } = read(`
mirrors:
  docker.io:
    endpoint:
      - "https://mirror.example.com:5000"
      - 10.0.0.1:5000/v2/proxy
    rewrite:
      "^rancher/(.*)": "mirrorproject/rancher-images/$1"
  "*":
    endpoint: ["https://any.example.com"]
  registry.local:
configs:
  "mirror.example.com:5000":
    auth:
      username: 00123
      password: yes
    tls:
      cert_file: /c
      key_file: /k
      ca_file: /ca
      insecure_skip_verify: on
`)
  expect(problems).toEqual([])
  expect(mirrors.map(({ registry }) => registry)).toEqual(['docker.io', '*', 'registry.local'])
  expect(mirrors[0]).toMatchObject({
    endpoints: [
      { written: 'https://mirror.example.com:5000' },
      { written: '10.0.0.1:5000/v2/proxy' },
    ],
    rewrites: [
      {
        rewrite: { pattern: '^rancher/(.*)', replacement: 'mirrorproject/rancher-images/$1' },
        place: { file: 'r.yaml', line: 8, column: 7 },
      },
    ],
  })
  expect(mirrors[2]).toMatchObject({ endpoints: [], rewrites: [] })
  const entry = configs.get('mirror.example.com:5000')
  expect(entry?.tls).toEqual({
    cert_file: '/c',
    key_file: '/k',
    ca_file: '/ca',
    insecure_skip_verify: true,
  })
  expect(entry?.auth?.[0]?.username).toBe('00123')
  expect(await entry?.auth?.[0]?.password?.read({})).toBe('yes')
})

test.each(['', '# nothing', '---', '{}', 'null', 'mirrors:\nconfigs:', 'mirrors: ~'])(
  '%j is empty, which is not a problem',
  (text) => {
    expect(read(text)).toMatchObject({ mirrors: [], problems: [] })
  },
)

describe('a setting that K3s ignores', () => {
  test.each([
    ['auths: { x: {} }', 'r.yaml:1:8 auths: warning: K3s ignores auths'],
    ['mirors: {}', 'r.yaml:1:1 mirors: warning: unknown key, ignored; did you mean mirrors?'],
    [
      'configs: { "a.b": { auth: { token: hunter2 } } }',
      'configs."a.b".auth.token: warning: K3s has no key named token',
    ],
    [
      'configs: { "a.b": { auth: { password:hunter2 } } }',
      'configs."a.b".auth."password…": warning: unknown key',
    ],
    [
      'mirrors: { "a.b": { hosts: [x] } }',
      "warning: K3s ignores it; move it to Chandlery's own file",
    ],
    ['mirrors: { "a.b": { rewrite: { "(.*": x } } }', 'warning: rule ignored, as K3s does'],
    [
      'mirrors: { "a.b": { endpoint: ["ftp://x"] } }',
      'mirrors."a.b".endpoint[0]: warning: endpoint ignored',
    ],
    ['mirrors: { "https://a.b": { } }', 'warning: ignored: not the name of a registry'],
    ['mirrors: {}\n---\nmirrors: {}', 'warning: K3s reads only the first document'],
    ['mirrors: { "a.b": , "a.b": }', 'warning: given twice; the last wins'],
  ])('is a warning: %s', (text, expected) => {
    const found = lines(text)
    expect(found).toHaveLength(1)
    expect(found[0]).toContain(expected)
    expect(found[0]).toMatch(/^r\.yaml:\d+:\d+ ?/)
    expect(found[0]).not.toContain('hunter2')
  })
})

describe('a setting that makes K3s refuse the file', () => {
  test.each([
    ['mirrors: [a]', 'is not a map'],
    ['x', 'is not a map'],
    ['mirrors: { "a.b": { endpoint: "https://x" } }', 'is not a list'],
    ['mirrors: { "a.b": { endpoint: [[x]] } }', 'is not a string'],
    ['configs: { "a.b": { tls: { insecure_skip_verify: maybe } } }', 'is neither true nor false'],
    ['configs: { "a.b": { tls: { cert_file: /c } } }', 'belong together'],
    ['mirrors: {', 'bracket is not closed'],
  ])('is an error: %s', (text, expected) => {
    const { problems } = read(text)
    expect(problems.some(({ severity }) => severity === 'error')).toBe(true)
    expect(problems.map(formatProblem).join('\n')).toContain(expected)
  })
})

describe('repeated keys, read as yaml.v2 reads them,', () => {
  test('merge a section that is given twice', () => {
    const text = 'mirrors: { "a.b": { endpoint: [one] } }\nmirrors: { "c.d": }'
    expect(read(text).mirrors.map(({ registry }) => registry)).toEqual(['a.b', 'c.d'])
  })

  test('replace a registry that is given twice by the last one as a whole', () => {
    const text =
      'mirrors:\n  docker.io: { endpoint: [one], rewrite: { a: b } }\n  docker.io: { endpoint: [two] }'
    expect(mirror(text)).toMatchObject({ endpoints: [{ written: 'two' }], rewrites: [] })
  })

  test('replace a rule that is given twice by the last one, and join two rewrite maps', () => {
    const text = 'mirrors:\n  docker.io:\n    rewrite: { a: b, c: d, a: e }\n    rewrite: { f: g }'
    expect(
      mirror(text)?.rewrites.map(({ rewrite }) => [rewrite.pattern, rewrite.replacement]),
    ).toEqual([
      ['c', 'd'],
      ['a', 'e'],
      ['f', 'g'],
    ])
  })
})

test('anchors and merge keys of YAML 1.1 work, a key of its own overrides a merged one', () => {
  const text = `
mirrors:
  a.b: &base { endpoint: [one], rewrite: { x: y } }
  c.d: *base
  e.f:
    <<: *base
    endpoint: [two]
  g.h: { <<: [*base] }
`
  expect(lines(text)).toEqual([])
  expect(mirror(text, 'c.d')).toMatchObject({
    endpoints: [{ written: 'one' }],
    rewrites: [{ rewrite: { pattern: 'x' } }],
  })
  expect(mirror(text, 'e.f')).toMatchObject({
    endpoints: [{ written: 'two' }],
    rewrites: [{ rewrite: { pattern: 'x' } }],
  })
  expect(mirror(text, 'g.h')).toMatchObject({ endpoints: [{ written: 'one' }] })
})

test('an empty or null auth is not a credential', () => {
  const { configs } = read('configs:\n  a.b: { auth: }\n  c.d: { auth: { username: "" } }')
  expect(configs.get('a.b')?.auth).toBeUndefined()
  expect(configs.get('c.d')?.auth?.[0]?.username).toBeUndefined()
})

test('endless merges and aliases of themselves come to an end', () => {
  expect(lines('mirrors: &m\n  <<: *m\n  a.b:\n').join('\n')).toContain('too much content')
  const wide = Array.from({ length: 400 }, (_, i) => `  r${i}.example.com: *x`).join('\n')
  const rules = Array.from({ length: 400 }, (_, i) => `p${i}: q`).join(', ')
  const before = performance.now()
  const found = lines(`mirrors:\n  a.b: &x { rewrite: { ${rules} } }\n${wide}\n`)
  expect(found.filter((line) => line.includes('too much content'))).toHaveLength(1)
  expect(performance.now() - before).toBeLessThan(10_000)
})

test('any text gives settings and problems with places, and never throws', () => {
  const part = fc.constantFrom(
    'mirrors',
    'configs',
    'docker.io',
    'endpoint',
    'rewrite',
    'auth',
    'tls',
    '*a',
    '&a ',
    '<<',
    'yes',
    '~',
    ': ',
    '\n',
    '\n  ',
    '\n    ',
    '- ',
    '{',
    '}',
    '[',
    ']',
    ',',
    '"',
    '!x ',
    '?',
    '012',
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 25 }), (parts) => {
      for (const { at } of read(parts.join('')).problems) {
        expect(at).toEqual({ file: 'r.yaml', line: expect.any(Number), column: expect.any(Number) })
      }
    }),
    { numRuns: 400 },
  )
})
