import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readConfigFile } from '../../src/config/config-file.ts'
import { registrySettingsOf } from '../../src/config/config.ts'
import { formatProblem, inReadingOrder } from '../../src/config/problem.ts'

const lines = (text: string) =>
  inReadingOrder(readConfigFile('c.yaml', text).problems).map(formatProblem)

test('an empty file, and one with every section commented out, are the defaults', () => {
  const empty = readConfigFile('c.yaml', '')
  expect(empty.problems).toEqual([])
  expect(empty.content).toMatchObject({
    listen: { host: '0.0.0.0', port: 5000 },
    defaultEndpoints: true,
  })
  for (const text of [
    '# nothing',
    '---',
    '{}',
    'admin:\nstorage:\nmirrors:\nconfigs:\nfreshness:\nlog:\ntls:\n',
  ]) {
    expect(lines(text)).toEqual([])
  }
})

test('all problems are reported at once, each with its place and its cure', () => {
  const text = `listen: 5000
lisen: :5000
storage: { directry: x, driver: s3 }
directory: ./x
tls: { certFile: a.pem }
mirrors:
  https://foo/: {}
  docker.io: { endpoint: ["ftp://x", "https://u:hunter2@h/x"], rewrite: { "b": c, "0": 5 } }
  ghcr.io: { rewrite: { "a": b, "(x": y, "\\\\1": z } }
configs:
  x.y:
    auth: { password: 12, usrname: q, identity_token: { env: 5 } }
    tls: { cert_file: x }
    resolve: [a]
freshness:
  ttl: 60
  staleIfError: 5x
  rules: [{ match: A, ttl: 1s }, { mach: x }]
log: { level: loud }
clientStallTimeout: 1ms
`
  expect(lines(text)).toMatchInlineSnapshot(`
    [
      "c.yaml:1:9 listen: expected a string such as 0.0.0.0:5000",
      "c.yaml:2:1 lisen: unknown key; did you mean listen?",
      "c.yaml:3:12 storage.directry: unknown key; did you mean directory?",
      "c.yaml:3:33 storage.driver: expected filesystem",
      "c.yaml:4:1 directory: unknown key here; did you mean storage.directory?",
      "c.yaml:5:1 tls.keyFile: is missing; expected a string such as /etc/chandlery/file",
      "c.yaml:7:3 mirrors."https://foo/": is not a registry; write host or host:port without a scheme or path, or "*"",
      "c.yaml:8:27 mirrors."docker.io".endpoint[0]: endpoint "ftp://x" has the scheme ftp: http and https are possible (https://host[:port][/path])",
      "c.yaml:8:38 mirrors."docker.io".endpoint[1]: endpoint "…@h/x" holds a user name: move it to configs, under auth (https://host[:port][/path])",
      "c.yaml:8:88 mirrors."docker.io".rewrite.0: expected a string; put the replacement in quotes",
      "c.yaml:9:33 mirrors."ghcr.io".rewrite."(x": rewrite pattern '(x': error parsing regexp: missing closing ): \`(x\`",
      "c.yaml:9:42 mirrors."ghcr.io".rewrite."\\\\1": rewrite pattern '\\1': error parsing regexp: invalid escape sequence: \`\\1\` (Go regular expressions have no back-references)",
      "c.yaml:12:23 configs."x.y".auth.password: expected a string (put a number in quotes), {env: NAME} or {file: PATH}",
      "c.yaml:12:27 configs."x.y".auth.usrname: unknown key; did you mean username?",
      "c.yaml:12:55 configs."x.y".auth.identity_token: expected a string (put a number in quotes), {env: NAME} or {file: PATH}",
      "c.yaml:13:23 configs."x.y".tls.cert_file: needs key_file; add key_file",
      "c.yaml:14:15 configs."x.y".resolve[0]: "a" is not an IP address; write one such as 203.0.113.7 or 2001:db8::7",
      "c.yaml:16:8 freshness.ttl: expected a string such as 30s or 2h30m",
      "c.yaml:17:17 freshness.staleIfError: "5x" is not a duration; write whole numbers with units d, h, m, s, ms, largest first, such as 30s or 2h30m",
      "c.yaml:18:20 freshness.rules[0].match: "A" is not a pattern; repository names are lower-case",
      "c.yaml:18:34 freshness.rules[1].match: is missing; expected a string such as docker.io/library/*:latest",
      "c.yaml:18:36 freshness.rules[1].mach: unknown key; did you mean match?",
      "c.yaml:19:15 log.level: expected one of fatal, error, warn, info, debug, trace, silent",
      "c.yaml:20:21 clientStallTimeout: "1ms" is out of bounds; write a duration between 1s and 24d",
    ]
  `)
})

/** Returns a list with ten aliases of another list. */
function level(name: string, of: string): string {
  return `${name}: &${name} [${Array(10).fill(`*${of}`).join(', ')}]`
}

test('mistakes below an invalid host are reported too, without its secrets', () => {
  const text = `mirrors: { "http://a": { endpont: [] }, "b/c": }
configs: { "http://d": { auth: { username: e, pasword: hunter2 } } }
`
  expect(lines(text)).toEqual([
    expect.stringMatching(/^c\.yaml:1:12 mirrors\."http:\/\/a": is not a registry/),
    'c.yaml:1:26 mirrors."http://a".endpont: unknown key; did you mean endpoint?',
    expect.stringMatching(/^c\.yaml:1:41 mirrors\."b\/c": is not a registry/),
    expect.stringMatching(/^c\.yaml:2:12 configs\."http:\/\/d": is not a registry/),
    'c.yaml:2:44 configs."http://d".auth.username: needs a password; add password',
    'c.yaml:2:47 configs."http://d".auth.pasword: unknown key; did you mean password?',
  ])
})

describe('an unknown key', () => {
  test.each([
    ['mirors: {}', 'c.yaml:1:1 mirors: unknown key; did you mean mirrors?'],
    [
      'capacity: 5GiB',
      /^c.yaml:1:1 capacity: unknown key; known here: admin, clientStallTimeout, /,
    ],
    [
      'storage: { capacity: 5GiB }',
      'c.yaml:1:12 storage.capacity: unknown key; known here: directory, driver',
    ],
    ['certFile: x', 'c.yaml:1:1 certFile: unknown key here; did you mean tls.certFile?'],
    [
      'configs: { "a.b": { tls: { caFile: /x } } }',
      'c.yaml:1:28 configs."a.b".tls.caFile: unknown key; did you mean ca_file?',
    ],
    [
      'configs: { "a.b": { auth: { token: x } } }',
      /auth.token: unknown key; known here: auth, identity_token/,
    ],
    ['__proto__: { a: 1 }', 'c.yaml:1:1 __proto__: cannot be a key'],
    ['mirrors: { __proto__: {} }', 'c.yaml:1:12 mirrors.__proto__: cannot be a key'],
    ['"\\e[31m": 1', /c.yaml:1:1 "\\u001b\[31m": unknown key/],
  ])('is an error with a cure: %s', (text, expected) => {
    expect(lines(text)).toEqual([
      typeof expected === 'string' ? expected : expect.stringMatching(expected),
    ])
  })
})

describe('invalid YAML', () => {
  test.each([
    ['a: [', 'bracket is not closed'],
    ['\ta: 1', 'tabs cannot be used for indentation'],
    ['a: "x', 'closing quote'],
    ['listen: [::1]:5000', 'put values with special characters in quotes'],
    ['listen: @x', 'cannot begin with this character'],
    ['listen: :5000\n---\nlisten: :5001', 'c.yaml:2:1: a second document'],
    ['listen: !port 5000', 'unknown tag'],
    ['dockerConfig: *x', 'there is no anchor'],
    ['? [a]\n: b', 'a key must be a plain string'],
    ['[1]', 'expected a map of keys'],
    ['text', 'expected a map of keys'],
  ])('is refused with its place: %j', (text, expected) => {
    const found = lines(text)
    expect(found.join('\n')).toContain(expected)
    for (const line of found) expect(line).toMatch(/^c\.yaml:\d+:\d+[: ]/)
  })

  test('that gives a key twice is an error that says where it is first', () => {
    expect(lines('log:\n  level: info\nlisten: :1\nlog:\n  level: debug\n')).toEqual([
      'c.yaml:4:1 log: given twice, first on line 1; keep one',
    ])
    expect(lines('freshness:\n  rules:\n    - { match: a/b, ttl: 1s, ttl: 2s }')).toEqual([
      'c.yaml:3:30 freshness.rules[0].ttl: given twice, first on line 3; keep one',
    ])
  })

  test('that spells one registry in two ways is an error', () => {
    expect(lines('mirrors:\n  Docker.io:\n  index.docker.io:\n')).toEqual([
      'c.yaml:3:3 mirrors."index.docker.io": is the same as Docker.io on line 2; keep one',
    ])
  })

  test('whose aliases multiply beyond reason is refused', () => {
    const text = [
      'a: &a [x]',
      level('b', 'a'),
      level('c', 'b'),
      level('d', 'c'),
      level('e', 'd'),
    ].join('\n')
    expect(lines(text).join('\n')).toContain('too much content')
  })

  test('whose alias holds itself is refused, not followed', () => {
    expect(lines('mirrors: &a\n  docker.io: *a\n')).not.toEqual([])
  })
})

test('the text of a secret is never repeated', () => {
  const wrongs = [
    'password: [hunter2]',
    'password: { env: hunter2-x }',
    'password: { enw: hunter2 }',
    'password: !x hunter2',
    'password: *hunter2',
    'password: "hunter2',
    'password: hunter2: x',
    'password: { file: [hunter2] }',
    'password: @hunter2',
    'password: "hunter2\\q"',
    'username: [hunter2]',
  ]
  for (const wrong of wrongs) {
    const found = lines(`configs:\n  a.b:\n    auth:\n      username: u\n      ${wrong}\n`)
    expect(found.length, wrong).toBeGreaterThan(0)
    expect(found.join('\n'), wrong).not.toContain('hunter2')
  }
  for (const wrong of ['password hunter2', 'password:hunter2', 'password=hunter2']) {
    const [found] = lines(`configs: { a.b: { auth: { ${wrong} } } }`)
    expect(found).toMatch(/auth\."password…": unknown key/)
  }
  const userinfo = lines(
    'mirrors: { a.b: { endpoint: ["https://u:hunter2@h/", "u:hunter2@h?", "x://u:hunter2@"] } }',
  )
  expect(userinfo).toHaveLength(3)
  expect(userinfo.join('\n')).not.toContain('hunter2')
})

describe('settings of credentials and TLS', () => {
  test.each([
    ['auth: { password: p }', 'needs a username'],
    ['auth: { username: u }', 'needs a password'],
    ['tls: { cert_file: /c }', 'needs key_file'],
    ['tls: { key_file: /k }', 'needs cert_file'],
    ['tls: { insecure_skip_verify: yes }', 'expected true or false'],
    ['auth: { username: u, password: p, realms: ["https://auth.x/"] }', 'write host or host:port'],
    ['auth: { username: 12, password: p }', 'put a number in quotes'],
  ])('are refused where they do not fit: %s', (entry, expected) => {
    expect(lines(`configs: { "a.b:5000": { ${entry} } }`).join('\n')).toContain(expected)
  })
})

test('rewrite rules keep the order of the file, also where they look like numbers', () => {
  const text = 'mirrors:\n  Docker.io:\n    rewrite:\n      b: x\n      "2": y\n      "1": z\n'
  const { content, source, problems } = readConfigFile('c.yaml', text)
  expect(problems).toEqual([])
  const [mirror] = registrySettingsOf(content!, source).mirrors
  expect(mirror?.registry).toBe('docker.io')
  expect(mirror?.rewrites).toMatchObject([
    { rewrite: { pattern: 'b', replacement: 'x' }, place: { file: 'c.yaml', line: 4, column: 7 } },
    { rewrite: { pattern: '2', replacement: 'y' }, place: { file: 'c.yaml', line: 5, column: 7 } },
    { rewrite: { pattern: '1', replacement: 'z' }, place: { file: 'c.yaml', line: 6, column: 7 } },
  ])
})

test('rewrite rules may be a list of maps, for tools that sort the keys of maps', () => {
  const rules = '[{ "^b/": "x/" }, { "^a/": "y/", "^0/": "z/" }]'
  const text = `mirrors:\n  docker.io: { endpoint: ["https://m.test"], rewrite: ${rules} }\n`
  const { content, source, problems } = readConfigFile('c.yaml', text)
  expect(problems).toEqual([])
  const [mirror] = registrySettingsOf(content!, source).mirrors
  expect(mirror?.rewrites).toMatchObject([
    {
      rewrite: { pattern: '^b/', replacement: 'x/' },
      place: { file: 'c.yaml', line: 2, column: 58 },
    },
    {
      rewrite: { pattern: '^a/', replacement: 'y/' },
      place: { file: 'c.yaml', line: 2, column: 75 },
    },
    {
      rewrite: { pattern: '^0/', replacement: 'z/' },
      place: { file: 'c.yaml', line: 2, column: 88 },
    },
  ])
})

test.each([
  ['"x"', '34 mirrors."docker.io".rewrite: expected a map of patterns'],
  ['["x"]', '35 mirrors."docker.io".rewrite[0]: expected a map of patterns'],
  ['[{ "(": x }]', '37 mirrors."docker.io".rewrite[0]."(": rewrite pattern'],
  ['[{ a: 5 }]', '40 mirrors."docker.io".rewrite[0].a: expected a string'],
])('the rewrite %s is refused with its place', (written, problem) => {
  const found = lines(`mirrors: { docker.io: { rewrite: ${written} } }`)
  expect(found).toEqual([expect.stringContaining(problem)])
})

test('a list of Docker config files may be given, with nothing but paths in it', () => {
  expect(lines('dockerConfig: [/a, /b]')).toEqual([])
  expect(lines('dockerConfig: [/a, 5]')).toEqual([
    'c.yaml:1:20 dockerConfig[1]: expected a string such as /etc/chandlery/file',
  ])
  expect(lines('dockerConfig: 5')).toEqual([
    'c.yaml:1:15 dockerConfig: expected a string such as /etc/chandlery/file',
  ])
})

test('any text gives a configuration or problems with places, and never throws', () => {
  const word = fc.constantFrom(
    'listen',
    'mirrors',
    'docker.io',
    ':5000',
    '*a',
    '&a',
    '<<',
    '!x',
    '1m',
    'null',
  )
  const mark = fc.constantFrom(
    ': ',
    '\n',
    '\n  ',
    '- ',
    '{',
    '}',
    '[',
    ']',
    ',',
    '"',
    "'",
    '#',
    '\t',
    '|',
    '%',
    '? ',
  )
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(fc.oneof(word, mark), { maxLength: 25 }).map((parts) => parts.join('')),
  )
  fc.assert(
    fc.property(text, (yaml) => {
      const { content, problems } = readConfigFile('c.yaml', yaml)
      if (!content) expect(problems.length).toBeGreaterThan(0)
      for (const problem of problems) expect(formatProblem(problem)).toMatch(/^c\.yaml:\d+:\d+/)
    }),
    { numRuns: 300 },
  )
})
