// What `explain` is told of credentials: which there are and where they are written, never a secret.
import { chmod, readdir, rm, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { explain } from '../../src/cli/explain.ts'
import { printExplanation } from '../../src/cli/print-explanation.ts'
import { loadConfig } from '../../src/config/load.ts'
import { explainDeps } from '../../src/app/explain-deps.ts'
import { proxiesOf } from '../../src/upstream/network/proxy/egress-proxy.ts'
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts'

const base64 = (text: string) => Buffer.from(text).toString('base64')

let directory: TemporaryDirectory
let docker: string

beforeEach(async () => {
  directory = await temporaryDirectory()
  docker = directory.join('config.json')
})
afterEach(() => directory.remove())

/** The line of credentials for an image of this registry, and nothing of any secret. */
async function credentialsOf(
  dockerConfig: object | string | undefined,
  configs: object = {},
  registry = 'a.test',
): Promise<string> {
  const text = typeof dockerConfig === 'string' ? dockerConfig : JSON.stringify(dockerConfig)
  // One that is broken is no configuration: it may become so after.
  const first = typeof dockerConfig === 'string' ? '{}' : text
  if (dockerConfig !== undefined) await writeFile(docker, first)
  const file = directory.join('chandlery.yaml')
  const storage = { directory: directory.join('cache') }
  const written = { mirrors: { [registry]: {} }, configs, storage }
  const key = dockerConfig === undefined ? {} : { dockerConfig: docker }
  await writeFile(file, JSON.stringify({ ...written, ...key }))
  const { config } = await loadConfig({ config: file }, {})
  if (text === 'GONE') await rm(docker)
  else if (dockerConfig !== undefined) await writeFile(docker, text)
  const explanation = await explain(`${registry}/team/app`, explainDeps(config, 0))
  const printed: string[] = []
  for (const json of [false, true]) {
    printExplanation(explanation, { json, write: (part) => printed.push(part) })
  }
  expect(printed.join('')).not.toMatch(/secret|c2VjcmV0/)
  const line = /^ {3}credentials {2}(.*)$/m.exec(printed.join(''))?.[1] ?? ''
  return line.replace(docker, '<file>')
}

describe("the credentials of Docker's config.json", () => {
  test.each([
    { entry: { auth: base64('bob:secret') }, says: 'password of "bob" (<file>)' },
    { entry: { username: 'bob', password: 'secret' }, says: 'password of "bob" (<file>)' },
    {
      entry: { auth: base64('bob:x'), identitytoken: 'secret' },
      says: 'identity token of "bob" (<file>)',
    },
    { entry: { auth: base64('<token>:secret') }, says: 'identity token (<file>)' },
    { entry: { registrytoken: 'secret' }, says: 'registry token (<file>)' },
    { entry: {}, says: 'none (anonymous; <file> has none)' },
  ])('are explained as: $says', async ({ entry, says }) => {
    expect(await credentialsOf({ auths: { 'a.test': entry } })).toBe(says)
    expect(await credentialsOf({ auths: { 'https://a.test/v1/': entry } })).toBe(says)
  })

  test('are those of the host alone, Docker Hub under any of its names', async () => {
    const auths = {
      'b.test': { auth: base64('bob:secret') },
      'https://index.docker.io/v1/': { auth: base64('hub:secret') },
    }
    expect(await credentialsOf({ auths })).toBe('none (anonymous; <file> has none)')
    expect(await credentialsOf({ auths }, {}, 'docker.io')).toBe('password of "hub" (<file>)')
  })

  test('come from a helper first, which explain does not run', async () => {
    const helper = directory.join('docker-credential-test')
    await writeFile(helper, `#!/bin/sh\ntouch '${directory.join('was-run')}'\n`)
    await chmod(helper, 0o755)
    const path = process.env['PATH']
    process.env['PATH'] = `${directory.path}:${path}`
    try {
      const auths = { 'a.test': { auth: base64('bob:secret') } }
      const helped = { credHelpers: { 'a.test': 'test' } }
      expect(await credentialsOf(helped)).toBe('from docker-credential-test (<file>)')
      expect(await credentialsOf({ ...helped, auths })).toBe(
        'from docker-credential-test, else password of "bob" (<file>)',
      )
      expect(await credentialsOf({ credsStore: 'test' })).toBe(
        'from docker-credential-test (<file>)',
      )
    } finally {
      process.env['PATH'] = path
    }
    expect(await readdir(directory.path)).not.toContain('was-run')
  })

  test('count only where configs has none for the host', async () => {
    const config = { auths: { 'a.test': { auth: base64('docker:secret') } } }
    const auth = { username: 'bot', password: 'secret' }
    const own = await credentialsOf(config, { 'a.test': { auth } })
    expect(own).toBe('password of "bot" (configs."a.test")')
    expect(await credentialsOf(config, { 'a.test': {} })).toBe('password of "docker" (<file>)')
    expect(await credentialsOf(config, { '*': { auth } })).toBe('password of "bot" (configs."*")')
  })

  test('that cannot be read are reported with the reason', async () => {
    expect(await credentialsOf('{"auths":"secret"')).toBe(
      'unknown: cannot read <file>: is no JSON object',
    )
    expect(await credentialsOf('GONE')).toBe('unknown: cannot read <file>: there is no such file')
  })
})

test('credentials for every host are not used for a host that only an image names', async () => {
  const file = directory.join('chandlery.yaml')
  const auth = { username: 'every', password: 'secret' }
  const storage = { directory: directory.join('cache') }
  await writeFile(docker, JSON.stringify({ credsStore: 'test' }))
  const mirrors = { '*': { endpoint: ['https://mirror.test'] }, 'a.test': {} }
  const written = { mirrors, configs: { '*': { auth } }, dockerConfig: docker, storage }
  await writeFile(file, JSON.stringify(written))
  const { config } = await loadConfig({ config: file }, {})
  const told = async (image: string) => {
    const { endpoints } = await explain(image, explainDeps(config, 0))
    return endpoints.map(({ endpoint, credentials }) => [
      endpoint,
      credentials?.from,
      credentials?.all.length,
    ])
  }
  const every = ['configs."*"', 1]
  expect(await told('a.test/team/app')).toEqual([['https://a.test/v2', ...every]])
  expect(await told('b.test/team/app')).toEqual([
    ['https://mirror.test/v2', ...every],
    ['https://b.test/v2', docker, 0],
  ])
})

test('several credentials of a host are all explained', async () => {
  const auth = [
    { username: 'one', password: 'secret' },
    { username: 'two', password: 'secret' },
    { identity_token: 'secret' },
  ]
  expect(await credentialsOf(undefined, { 'a.test': { auth } })).toBe(
    'password of "one", password of "two", identity token (configs."a.test": the one with the most requests left is used)',
  )
})

describe('the proxy of an endpoint', () => {
  const HTTPS_PROXY = 'http://u:secret@env.test:3128'
  const own = { 'a.test': { proxy: 'socks5://bot:secret@own.test' } }

  test.each([
    { says: 'none' },
    { env: { HTTPS_PROXY }, says: 'http://<redacted>@env.test:3128 (HTTPS_PROXY)' },
    { env: { all_proxy: HTTPS_PROXY }, says: 'http://<redacted>@env.test:3128 (all_proxy)' },
    { env: { HTTPS_PROXY, NO_PROXY: '.b.test,a.test' }, says: 'none (NO_PROXY)' },
    { env: { HTTP_PROXY: HTTPS_PROXY }, says: 'none' },
    {
      env: { HTTPS_PROXY },
      configs: own,
      says: 'socks5://<redacted>@own.test:1080 (configs."a.test")',
    },
    {
      env: { HTTPS_PROXY },
      configs: { '*': { proxy: 'direct' } },
      says: 'none (configs."*")',
    },
    {
      env: { HTTPS_PROXY },
      configs: { '*': { proxy: 'direct' }, 'a.test': {} },
      says: 'http://<redacted>@env.test:3128 (HTTPS_PROXY)',
    },
  ])('is explained as: $says', async ({ env = {}, configs = {}, says }) => {
    const file = directory.join('chandlery.yaml')
    const storage = { directory: directory.join('cache') }
    await writeFile(file, JSON.stringify({ mirrors: { 'a.test': {} }, configs, storage }))
    const { config } = await loadConfig({ config: file }, env)
    const explanation = await explain('a.test/app', explainDeps(config, 0, proxiesOf(env)))
    const printed: string[] = []
    for (const json of [false, true]) {
      printExplanation(explanation, { json, write: (part) => printed.push(part) })
    }
    const [text = '', json = ''] = printed
    expect(/^ {3}proxy {8}(.*)$/m.exec(text)?.[1]).toBe(says)
    expect(text + json).not.toContain('secret')
    const [, url, from] = /^(\S+) \((.*)\)$/.exec(says) ?? []
    const told = url === undefined ? undefined : { url: url === 'none' ? 'direct' : url, from }
    expect(JSON.parse(json).endpoints[0].proxy).toEqual(told)
  })
})

test('the entry of docker.io is named as it is written', async () => {
  const file = directory.join('chandlery.yaml')
  const storage = { directory: directory.join('cache') }
  const configs = { 'docker.io': { proxy: 'p.test:3128', timeouts: { connect: '3s' } } }
  await writeFile(file, JSON.stringify({ configs, storage }))
  const { config } = await loadConfig({ config: file }, {})
  const { endpoints } = await explain('alpine', explainDeps(config, 0))
  const from = 'configs."docker.io"'
  expect(endpoints).toMatchObject([
    { proxy: { url: 'http://p.test:3128', from }, timeouts: { connectMs: 3000, from } },
  ])
})
