import { mkdir, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import type { Environment, Flags } from '../../src/config/env.ts'
import { loadConfig } from '../../src/config/load.ts'
import { ConfigError, formatProblem } from '../../src/config/problem.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'

async function setUp(files: Record<string, string>) {
  const directory = await temporaryDirectory()
  for (const [name, text] of Object.entries(files)) await writeFile(directory.join(name), text)
  const hide = (text: string) => text.replaceAll(`${directory.path}/`, '')
  return {
    [Symbol.asyncDispose]: () => directory.remove(),
    directory,
    load: (flags: Flags, env: Environment = {}) => loadConfig(inside(flags), env),
    async problems(flags: Flags, env: Environment = {}): Promise<string[]> {
      const error = await loadConfig(inside(flags), env).catch((thrown: unknown) => thrown)
      expect(error).toBeInstanceOf(ConfigError)
      return hide((error as ConfigError).message).split('\n')
    },
    warnings: async (flags: Flags, env: Environment = {}) =>
      (await loadConfig(inside(flags), env)).warnings.map((each) => hide(formatProblem(each))),
  }
  function inside({ config, registries, ...rest }: Flags): Flags {
    return {
      ...rest,
      ...(config !== undefined && { config: directory.join(config) }),
      ...(registries !== undefined && { registries: directory.join(registries) }),
    }
  }
}

test('the defaults and the built-in registries apply without files, flags and variables', async () => {
  const { config, warnings } = await loadConfig({}, {})
  expect(warnings).toEqual([])
  expect(config).toEqual({
    listen: { host: '0.0.0.0', port: 5000 },
    admin: { listen: { host: '127.0.0.1', port: 5001 } },
    storage: { driver: 'filesystem', directory: './data' },
    defaultRegistry: 'docker.io',
    defaultEndpoints: true,
    mirrors: [
      'docker.io',
      'registry.k8s.io',
      'k8s.gcr.io',
      'ghcr.io',
      'quay.io',
      'gcr.io',
      'mcr.microsoft.com',
      'public.ecr.aws',
      'nvcr.io',
      'registry.gitlab.com',
    ].map((registry) => ({
      registry,
      endpoints:
        registry === 'k8s.gcr.io'
          ? [expect.objectContaining({ written: 'https://registry.k8s.io' })]
          : [],
      rewrites: [],
      hosts: [],
    })),
    configs: {},
    dockerConfig: [],
    freshness: {
      ttlMs: 60_000,
      staleWhileRevalidateMs: 0,
      revalidateTimeoutMs: 2000,
      staleIfErrorMs: 'forever',
      whenGone: 'serve',
      negativeTtlMs: 10_000,
      rules: [],
    },
    fetch: {
      pieceBytes: 8 * 1024 * 1024,
      connections: 4,
      maxConnections: 16,
      fill: 'onFullRead',
      partialTtlMs: 86_400_000,
    },
    timeouts: { connectMs: 10_000, firstByteMs: 30_000, stallMs: 15_000 },
    dns: { servers: [] },
    health: {},
    clientStallTimeoutMs: 600_000,
    shutdownDelayMs: 0,
    shutdownTimeoutMs: 30_000,
    log: { level: 'info' },
  })
})

test('a flag wins over a variable, a variable over the file, and the file over the default', async () => {
  await using world = await setUp({
    'c.yaml':
      'listen: :1\nadmin: { listen: ":2" }\nstorage: { directory: file }\nlog: { level: warn }\n',
  })
  const env = { CHANDLERY_LISTEN: ':3', CHANDLERY_DIRECTORY: 'variable' }
  const { config } = await world.load({ config: 'c.yaml', listen: ':4' }, env)
  expect(config.listen.port).toBe(4)
  expect(config.storage.directory).toBe('variable')
  expect(config.admin.listen.port).toBe(2)
  expect(config.log.level).toBe('warn')
  expect(config.clientStallTimeoutMs).toBe(600_000)
})

test('the files themselves can be named by variables', async () => {
  await using world = await setUp({ 'c.yaml': 'listen: :1', 'r.yaml': 'mirrors: { a.b: }' })
  const { config } = await world.load(
    {},
    {
      CHANDLERY_CONFIG: world.directory.join('c.yaml'),
      CHANDLERY_REGISTRIES: world.directory.join('r.yaml'),
    },
  )
  expect(config.listen.port).toBe(1)
  expect(config.mirrors.map(({ registry }) => registry)).toEqual(['a.b'])
})

test('every duration, rule and switch arrives, in milliseconds', async () => {
  await using world = await setUp({
    'c.yaml': `
freshness:
  ttl: 2m
  staleWhileRevalidate: 1h
  revalidateTimeout: 500ms
  staleIfError: 7d
  whenGone: refuse
  negativeTtl: 0s
  rules:
    - { match: "docker.io/library/*:latest", ttl: 30s }
    - { match: "**:v*", staleIfError: forever, whenGone: serve, negativeTtl: 1s, staleWhileRevalidate: 2s, revalidateTimeout: 3s }
clientStallTimeout: 1m
shutdownDelay: 5s
shutdownTimeout: 0s
defaultEndpoints: false
defaultRegistry: GHCR.io
`,
  })
  const { config } = await world.load({ config: 'c.yaml' })
  expect(config.freshness).toEqual({
    ttlMs: 120_000,
    staleWhileRevalidateMs: 3_600_000,
    revalidateTimeoutMs: 500,
    staleIfErrorMs: 604_800_000,
    whenGone: 'refuse',
    negativeTtlMs: 0,
    rules: [
      { match: 'docker.io/library/*:latest', ttlMs: 30_000 },
      {
        match: '**:v*',
        staleIfErrorMs: 'forever',
        whenGone: 'serve',
        negativeTtlMs: 1000,
        staleWhileRevalidateMs: 2000,
        revalidateTimeoutMs: 3000,
      },
    ],
  })
  expect(config).toMatchObject({
    clientStallTimeoutMs: 60_000,
    shutdownDelayMs: 5_000,
    shutdownTimeoutMs: 0,
    defaultEndpoints: false,
    defaultRegistry: 'ghcr.io',
  })
})

describe('a K3s file beside ours', () => {
  test('replaces the built-in list; where both name a registry or host, ours wins', async () => {
    await using world = await setUp({
      'c.yaml': `
mirrors:
  docker.io: { endpoint: ["https://ours.example.com"] }
configs:
  "b.example.com": { resolve: [203.0.113.7] }
`,
      'r.yaml': `
mirrors:
  docker.io: { endpoint: ["https://k3s.example.com"], rewrite: { "^a/": "b/" } }
  ghcr.io:
configs:
  "a.example.com": { auth: { username: u, password: p } }
  "b.example.com": { auth: { username: u, password: p } }
`,
    })
    const { config, warnings } = await world.load({ config: 'c.yaml', registries: 'r.yaml' })
    expect(warnings).toEqual([])
    expect(config.mirrors).toMatchObject([
      { registry: 'docker.io', endpoints: [{ written: 'https://ours.example.com' }] },
      { registry: 'ghcr.io', endpoints: [] },
    ])
    expect(config.configs['a.example.com']?.auth?.[0]?.username).toBe('u')
    expect(config.configs['b.example.com']).toMatchObject({ resolve: ['203.0.113.7'] })
    expect(config.configs['b.example.com']?.auth).toBeUndefined()
  })

  test('without mirrors leaves the built-in list', async () => {
    await using world = await setUp({ 'r.yaml': 'mirrors: {}\nconfigs: { "docker.io": }' })
    const { config } = await world.load({ registries: 'r.yaml' })
    expect(config.mirrors).toHaveLength(10)
    expect(Object.keys(config.configs)).toEqual(['docker.io'])
  })

  test('may name missing files with a warning, where ours gets an error', async () => {
    const entry = 'configs:\n  "docker.io":\n    tls: { ca_file: /nowhere/ca.pem }\n'
    await using world = await setUp({ 'c.yaml': entry, 'r.yaml': entry })
    expect(await world.warnings({ registries: 'r.yaml' })).toEqual([
      'r.yaml:2:3 configs."docker.io".tls.ca_file: warning: /nowhere/ca.pem: there is no such file',
    ])
    expect(await world.problems({ config: 'c.yaml' })).toEqual([
      'c.yaml:3:21 configs."docker.io".tls.ca_file: /nowhere/ca.pem: there is no such file',
    ])
  })
})

describe('configuration files that cannot be read', () => {
  test('are all reported by name', async () => {
    await using world = await setUp({})
    await mkdir(world.directory.join('r.yaml'))
    expect(await world.problems({ config: 'c.yaml', registries: 'r.yaml' })).toEqual([
      'c.yaml: there is no such file',
      'r.yaml: it is a directory; name a file',
    ])
  })

  test('include one larger than 1 MiB and one that is not text', async () => {
    await using world = await setUp({ 'c.yaml': `# ${'x'.repeat(1024 * 1024)}` })
    expect(await world.problems({ config: 'c.yaml' })).toEqual(['c.yaml: it is larger than 1 MiB'])
    await writeFile(world.directory.join('c.yaml'), Buffer.from([0x61, 0xff]))
    expect(await world.problems({ config: 'c.yaml' })).toEqual(['c.yaml: it is not UTF-8 text'])
  })
})

test('mistakes in flags, variables and both files are reported together, in reading order', async () => {
  await using world = await setUp({
    'c.yaml': 'lisen: :1\nmirrors:\n  a.b: { endpoint: [x], rewrite: { "(": y } }\n',
    'r.yaml': 'mirrors: [x]\nauths: {}\n',
  })
  const flags = { config: 'c.yaml', registries: 'r.yaml', listen: '1' }
  const found = await world.problems(flags, { CHANDLERY_LOG_LEVEL: 'loud' })
  expect(found.map((line) => line.slice(0, 24))).toEqual([
    '--listen: "1" is not an ',
    'CHANDLERY_LOG_LEVEL: "lo',
    'c.yaml:1:1 lisen: unknow',
    'c.yaml:3:36 mirrors."a.b',
    'r.yaml:1:10 mirrors: is ',
    'r.yaml:2:8 auths: warnin',
  ])
})

test('an invalid rule of ours is an error with its place, one of a K3s file a warning', async () => {
  const text = 'mirrors:\n  a.b:\n    endpoint: [c.d]\n    rewrite: { "(x": y, "^z/": "q/" }\n'
  await using world = await setUp({ 'c.yaml': text, 'r.yaml': text })
  expect((await world.problems({ config: 'c.yaml' }))[0]).toMatch(
    /^c\.yaml:4:16 mirrors\."a\.b"\.rewrite\."\(x": rewrite pattern/,
  )
  const { config, warnings } = await world.load({ registries: 'r.yaml' })
  expect(warnings.map(({ message }) => message)).toEqual([expect.stringMatching(/^rule ignored/)])
  expect(config.mirrors[0]?.rewrites.map(({ rewrite }) => rewrite.pattern)).toEqual(['^z/'])
})

describe('a configuration', () => {
  test('may not refer to variables that are not set or to missing files', async () => {
    await using world = await setUp({
      'c.yaml': `
tls: { certFile: /nowhere/tls.crt, keyFile: /nowhere/tls.key }
dockerConfig: [~/.docker/config.json, /nowhere/config.json]
configs:
  Docker.io:
    auth: { username: u, password: { env: MIRROR_PASSWORD } }
  ghcr.io:
    auth: { identity_token: { file: /nowhere/token } }
`,
    })
    const wrong = await world.problems({ config: 'c.yaml' })
    expect(wrong).toEqual([
      'c.yaml:2:18 tls.certFile: /nowhere/tls.crt: there is no such file',
      'c.yaml:2:45 tls.keyFile: /nowhere/tls.key: there is no such file',
      'c.yaml:3:16 dockerConfig[0]: ~/.docker/config.json: there is no such file; ~ is not expanded, write the full path',
      'c.yaml:3:39 dockerConfig[1]: /nowhere/config.json: there is no such file',
      'c.yaml:6:36 configs."docker.io".auth.password: the environment variable MIRROR_PASSWORD is not set',
      'c.yaml:8:29 configs."ghcr.io".auth.identity_token: /nowhere/token: there is no such file',
    ])
  })

  test('may refer to a variable, which is not read before it is needed', async () => {
    await using world = await setUp({
      'c.yaml': 'configs: { docker.io: { auth: { username: u, password: { env: P } } } }',
    })
    const { config } = await world.load({ config: 'c.yaml' }, { P: 'one' })
    const password = config.configs['docker.io']?.auth?.[0]?.password
    expect(await password?.read({ env: { P: 'two' } })).toBe('two')
  })
})

test.each([
  ['{ file: FILE }', {}],
  ['{ env: TOKEN }', { TOKEN: 'two words' }],
  ['two words', {}],
])('an admin.token that nobody can send is an error: %s', async (token, env) => {
  await using world = await setUp({ token: 'two words' })
  const text = `admin: { token: ${token.replace('FILE', world.directory.join('token'))} }`
  await writeFile(world.directory.join('c.yaml'), text)
  const [problem] = await world.problems({ config: 'c.yaml' }, env)
  expect(problem).toMatch(
    /^c\.yaml:1:17 admin\.token: .*contains white space; write a token of one word$/,
  )
  expect(problem).not.toContain('two')
})

describe('settings that do not go together', () => {
  test('include one port for both listeners', async () => {
    await using world = await setUp({ 'c.yaml': 'admin: { listen: "127.0.0.1:5000" }' })
    expect(await world.problems({ config: 'c.yaml' })).toEqual([
      'c.yaml:1:18 admin.listen: listen already uses 127.0.0.1:5000; give admin.listen another port',
    ])
    const { config } = await world.load({ config: 'c.yaml', listen: '127.0.0.2:5000' })
    expect(config.admin.listen.port).toBe(5000)
    await expect(world.load({ listen: ':0', adminListen: ':0' })).resolves.toBeDefined()
    expect(await world.problems({ listen: ':7', adminListen: '[::1]:7' })).toEqual([
      'listen addresses: listen already uses [::1]:7; give admin.listen another port',
    ])
  })

  test('include one Host header for two registries', async () => {
    await using world = await setUp({
      'c.yaml': 'mirrors:\n  a.b: { hosts: [X.y] }\n  c.d: { hosts: [x.y, z.y] }\n',
    })
    expect(await world.problems({ config: 'c.yaml' })).toEqual([
      'c.yaml:3:3 mirrors."c.d".hosts: x.y already belongs to a.b; list a host under one registry only',
    ])
  })

  test('include a configs entry that is nearly the host of an endpoint', async () => {
    await using world = await setUp({
      'c.yaml': `
mirrors: { docker.io: { endpoint: ["https://mirror.example.com:5000/v2"] } }
configs:
  mirror.example.com: {}
  miror.example.com:5000: {}
  registry-1.docker.io: {}
  auth.elsewhere.org: {}
`,
    })
    expect(await world.warnings({ config: 'c.yaml' })).toEqual([
      'c.yaml:4:3 configs."mirror.example.com": warning: no endpoint has this host; did you mean mirror.example.com:5000? (write host and port as in the endpoint)',
      'c.yaml:5:3 configs."miror.example.com:5000": warning: no endpoint has this host; did you mean mirror.example.com:5000? (write host and port as in the endpoint)',
    ])
  })
})
