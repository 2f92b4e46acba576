import * as fc from 'fast-check'
import { RE2JS } from 're2js'
import { stringify } from 'yaml'
import { expect, test } from 'vitest'
import { readConfigFile } from '../../src/config/config-file.ts'
import {
  type Config,
  mergeRegistries,
  registrySettingsOf,
  settingsOf,
} from '../../src/config/config.ts'
import { effectiveConfig, toPlain, toYaml } from '../../src/config/effective.ts'
import { formatProblem } from '../../src/config/problem.ts'

function configOf(text: string): Config {
  const { content, source, problems } = readConfigFile('c.yaml', text)
  expect(problems.map(formatProblem)).toEqual([])
  const none = { mirrors: [], configs: new Map<string, never>() }
  return { ...settingsOf(content!), ...mergeRegistries(registrySettingsOf(content!, source), none) }
}

/** Returns a configuration without its places, for comparison. */
const meaning = (config: Config) =>
  JSON.parse(JSON.stringify(config, (key, value: unknown) => (key === 'place' ? undefined : value)))

test('secrets never show: references are printed as they are, literals as <redacted>', () => {
  const config = configOf(`
configs:
  a.b: { auth: { username: u, password: hunter2 } }
  c.d: { auth: { username: u, password: { env: NAME } } }
  e.f: { auth: { auth: { file: /run/secrets/x } } }
  g.h: { auth: { identity_token: hunter2 } }
`)
  const yaml = toYaml(effectiveConfig(config))
  const json = JSON.stringify(toPlain(effectiveConfig(config)))
  expect(yaml + json).not.toContain('hunter2')
  expect(yaml.slice(yaml.indexOf('configs:'), yaml.indexOf('freshness:'))).toMatchInlineSnapshot(`
    "configs:
      a.b:
        auth:
          username: u
          password: <redacted>
      c.d:
        auth:
          username: u
          password:
            env: NAME
      e.f:
        auth:
          auth:
            file: /run/secrets/x
      g.h:
        auth:
          identity_token: <redacted>
    "
  `)
  expect(JSON.parse(json)).toMatchObject({
    configs: { 'a.b': { auth: { username: 'u', password: '<redacted>' } } },
  })
})

test('rewrite rules are printed in the order in which they are tried', () => {
  const config = configOf('mirrors: { a.b: { rewrite: { z: a, "2": b, "1": c } } }')
  expect(toYaml(effectiveConfig(config))).toContain('z: a\n      "2": b\n      "1": c\n')
})

const duration = fc.constantFrom('0s', '1s', '90s', '2h30m', '1d', '1500ms', '36h')
const timer = fc.constantFrom('1s', '90s', '2h30m', '1d', '1500ms')
const settings = {
  ttl: duration,
  staleWhileRevalidate: duration,
  revalidateTimeout: timer,
  staleIfError: fc.oneof(duration, fc.constant('forever')),
  whenGone: fc.constantFrom('serve', 'refuse'),
  negativeTtl: duration,
}
const optional = { requiredKeys: [] }
const secret = fc.oneof(
  fc.record({ env: fc.constantFrom('A', 'B_1') }),
  fc.record({ file: fc.constantFrom('/a', 'b c') }),
)
/** Patterns other than `__proto__`, which is refused as a key. */
const pattern = fc
  .string({ minLength: 1 })
  .map((text) => RE2JS.quote(text))
  .filter((text) => text !== '__proto__')
const host = fc.constantFrom('docker.io', 'ghcr.io', 'localhost:5000', '*', '[::1]:5000')
const credential = fc.record({
  username: fc.string({ minLength: 1 }),
  password: secret,
  realms: fc.constant(['x']),
})

const file = fc.record(
  {
    listen: fc.constantFrom(':1', '[::1]:2', 'localhost:0'),
    tls: fc.constant({ certFile: 'c', keyFile: 'k: #' }),
    defaultRegistry: fc.constantFrom('ghcr.io', 'localhost:5000'),
    defaultEndpoints: fc.boolean(),
    mirrors: fc.dictionary(
      host,
      fc.option(
        fc.record(
          {
            endpoint: fc.array(fc.constantFrom('https://a.b', 'c.d:5000/v2/x', 'http://e'), {
              minLength: 1,
            }),
            rewrite: fc.dictionary(pattern, fc.string(), {
              minKeys: 1,
              noNullPrototype: true,
            }),
            hosts: fc.constant(['x.y']),
          },
          optional,
        ),
      ),
      { minKeys: 1, noNullPrototype: true },
    ),
    configs: fc.dictionary(
      host,
      fc.record(
        {
          auth: fc.oneof(credential, fc.array(credential, { minLength: 1, maxLength: 3 })),
          proxy: fc.constantFrom('direct', 'socks5://proxy.test', 'proxy.test:3128'),
          tls: fc.record(
            { ca_file: fc.constant('c'), insecure_skip_verify: fc.boolean() },
            optional,
          ),
          resolve: fc.constant(['::1', '127.0.0.1']),
          fetch: fc.record(
            {
              piece: fc.constantFrom('1MiB', '16MiB'),
              connections: fc.constantFrom(1, 8),
              maxConnections: fc.constant(64),
            },
            optional,
          ),
          timeouts: fc.record({ connect: timer, firstByte: timer, stall: timer }, optional),
        },
        optional,
      ),
      { noNullPrototype: true },
    ),
    freshness: fc.record(
      {
        ...settings,
        rules: fc.array(fc.record({ match: fc.constantFrom('**', 'a/*:b'), ttl: duration })),
      },
      optional,
    ),
    fetch: fc.record(
      {
        piece: fc.constantFrom('1MiB', '3000000B', '1GiB'),
        connections: fc.integer({ min: 1, max: 64 }),
      },
      optional,
    ),
    timeouts: fc.record({ connect: timer, firstByte: timer, stall: timer }, optional),
    dns: fc.record({ servers: fc.constant(['192.0.2.53', '[2001:db8::53]:5353']) }, optional),
    health: fc.record({ probe: fc.oneof(fc.constant('off'), timer) }, optional),
    clientStallTimeout: timer,
    log: fc.record({ level: fc.constantFrom('debug', 'silent') }),
  },
  optional,
)

/** Returns a configuration without places, and with the sources of secrets instead of secrets. */
function comparable(value: Config): unknown {
  return {
    ...meaning(value),
    configs: Object.entries(value.configs).map(
      ([name, { auth, tls, resolve, proxy, fetch, timeouts }]) => [
        name,
        auth?.map(({ username, password, realms }) => [username, password?.source, realms]),
        proxy && String(proxy),
        tls?.ca_file,
        tls?.insecure_skip_verify,
        resolve,
        { ...fetch },
        { ...timeouts },
      ],
    ),
  }
}

test('the printed configuration is a configuration file that means the same', () => {
  fc.assert(
    fc.property(file, (written) => {
      const config = configOf(stringify(written))
      const again = configOf(toYaml(effectiveConfig(config)))
      expect(comparable(again)).toEqual(comparable(config))
    }),
    { numRuns: 60 },
  )
})
