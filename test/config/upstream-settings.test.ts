// The keys for connections to upstreams: credentials in a list, proxies, DNS, time limits.
import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'

import { readConfigFile } from '../../src/config/config-file.ts'
import { registrySettingsOf, settingsOf } from '../../src/config/config.ts'
import { formatProblem } from '../../src/config/problem.ts'

function read(text: string) {
  const { content, source, problems } = readConfigFile('c.yaml', text)
  expect(problems.map(formatProblem)).toEqual([])
  return { ...settingsOf(content!), configs: registrySettingsOf(content!, source).configs }
}

function problemsOf(text: string): string[] {
  return readConfigFile('c.yaml', text).problems.map(formatProblem)
}

describe('auth', () => {
  test('is one credential or a list of them', () => {
    const one = '{ username: a, password: p }'
    const { configs } = read(`configs: { a.b: { auth: ${one} }, c.d: { auth: [${one}, ${one}] } }`)
    expect(configs.get('a.b')?.auth?.map(({ username }) => username)).toEqual(['a'])
    expect(configs.get('c.d')?.auth).toHaveLength(2)
  })

  test('in a list is checked like a single one, each at its place', () => {
    const text = 'configs:\n  a.b:\n    auth:\n      - { username: u, password: p }\n      - '
    expect(problemsOf(`${text}{ username: u }`)).toEqual([
      expect.stringMatching(/^c\.yaml:5:\d+ .*needs a password/),
    ])
    expect(problemsOf(`${text}{ usrname: u }`)).toEqual([
      expect.stringMatching(/^c\.yaml:5:\d+ .*did you mean username/),
    ])
    expect(problemsOf('configs: { a.b: { auth: [] } }')).toHaveLength(1)
    expect(problemsOf('configs: { a.b: { auth: secret } }').join()).not.toContain('secret')
  })
})

describe('proxy', () => {
  test('is a URL, whose password is not printed, or direct', () => {
    const text =
      'configs: { a.b: { proxy: "http://u:secret@p.test:3128" }, c.d: { proxy: direct } }'
    const { configs } = read(text)
    expect(inspect(configs, { depth: 9 }) + JSON.stringify([...configs])).not.toContain('secret')
    expect(String(configs.get('a.b')?.proxy)).toBe('http://<redacted>@p.test:3128')
    expect(configs.get('c.d')?.proxy).toBe('direct')
  })

  test.each(['ftp://u:secret@p.test', 'http://u:secret@', 'http://u:secret@p.test/x', '""'])(
    '%s is refused without being repeated',
    (written) => {
      const problems = problemsOf(`configs: { a.b: { proxy: ${written} } }`)
      expect(problems).toEqual([expect.stringContaining('write http://')])
      expect(problems.join()).not.toContain('secret')
    },
  )
})

test('time limits, DNS servers and the probe have defaults and units', () => {
  const { timeouts, dns, health } = read('timeouts: { connect: 3s }\ndns:\nhealth: { probe: 1m }')
  expect(timeouts).toEqual({ connectMs: 3000, firstByteMs: 30_000, stallMs: 15_000 })
  expect([dns, health]).toEqual([{ servers: [] }, { probeMs: 60_000 }])
  expect(read('health: { probe: off }').health).toEqual({})
})

test('time limits of one host are read like those of all, each on its own', () => {
  const { configs } = read('configs: { a.b: { timeouts: { stall: 1m } }, c.d: { timeouts: } }')
  expect(configs.get('a.b')?.timeouts).toEqual({ stallMs: 60_000 })
  expect(configs.get('c.d')?.timeouts).toBeUndefined()
  expect(problemsOf('configs: { a.b: { timeouts: { stal: 1m, connect: 5ms } } }')).toEqual([
    expect.stringMatching(/configs\."a\.b"\.timeouts\.connect: "5ms" is out of bounds/),
    expect.stringMatching(/configs\."a\.b"\.timeouts\.stal.*did you mean stall/),
  ])
})

test.each(['192.0.2.53', '192.0.2.53:5353', '2001:db8::53', '[2001:db8::53]', '[2001:db8::53]:53'])(
  '%s is a DNS server',
  (server) => {
    expect(read(`dns: { servers: ["${server}"] }`).dns.servers).toEqual([server])
  },
)

test.each(['dns.test', '192.0.2.53:0', '192.0.2.53:99999', '[192.0.2.53', '', '2001:db8::g'])(
  '%j is not a DNS server',
  (server) => {
    expect(problemsOf(`dns: { servers: ["${server}"] }`)).toEqual([
      expect.stringContaining('is not an address'),
    ])
  },
)
