import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import * as fc from 'fast-check'

import {
  CredentialError,
  ConfiguredCredentials,
} from '../../../src/upstream/credentials/configured.ts'
import { fingerprintOf } from '../../../src/upstream/credentials/credentials.ts'
import { parseDockerConfig } from '../../../src/upstream/credentials/docker-config.ts'
import { configForHost } from '../../../src/upstream/routing/host-config.ts'
import { temporaryDirectory, type TemporaryDirectory } from '../../support/temporary-directory.ts'

const base64 = (text: string) => Buffer.from(text).toString('base64')
const basic = (username: string, password: string) => ({ kind: 'basic', username, password })

let directory: TemporaryDirectory
let now = 0
beforeEach(async () => {
  directory = await temporaryDirectory()
  now = 0
})
afterEach(() => directory.remove())

async function withConfig(config: object): Promise<ConfiguredCredentials> {
  const file = directory.join('config.json')
  await writeFile(file, JSON.stringify(config))
  return new ConfiguredCredentials({ hosts: {}, dockerConfigPaths: [file] })
}

describe('the configs entry of a host', () => {
  test.each([
    { host: 'a.test', entry: 'a' },
    { host: 'a.test:5000', entry: 'port' },
    { host: 'b.test', entry: 'any' },
    { host: 'registry-1.docker.io', entry: 'hub' },
    { host: 'docker.io', entry: 'hub' },
    { host: 'toString', entry: 'any' },
  ])('of $host is $entry', ({ host, entry }) => {
    const hosts = { 'a.test': 'a', 'a.test:5000': 'port', 'docker.io': 'hub', '*': 'any' }
    expect(configForHost(hosts, host)).toBe(entry)
  })

  test('of Docker Hub prefers the name that was asked for', () => {
    const hosts = { 'docker.io': 'short', 'registry-1.docker.io': 'long' }
    expect(configForHost(hosts, 'registry-1.docker.io')).toBe('long')
    expect(configForHost(hosts, 'docker.io')).toBe('short')
  })
})

describe('a configured credential', () => {
  test('is read from literals and from wherever a secret is', async () => {
    const credentials = new ConfiguredCredentials({
      hosts: {
        'a.test': { auth: { username: 'u', password: 'p', realms: ['auth.test'] } },
        'b.test': {
          auth: { username: 'u', password: { read: () => Promise.resolve('from file\n') } },
        },
        'c.test': { auth: { auth: base64('u:p:q') } },
        'd.test': { auth: { identity_token: 'id' } },
        'e.test': {},
      },
    })
    const all = ['a.test', 'b.test', 'c.test', 'd.test', 'e.test', 'f.test'].map((host) =>
      credentials.credentialFor({ host }),
    )
    expect(await Promise.all(all)).toEqual([
      { ...basic('u', 'p'), realms: ['auth.test'] },
      basic('u', 'from file'),
      basic('u', 'p:q'),
      { kind: 'identity', token: 'id' },
      { kind: 'anonymous' },
      { kind: 'anonymous' },
    ])
  })

  test('that cannot be read is reported with its host, and without a secret', async () => {
    const password = {
      read: () => Promise.reject(new Error('the environment variable X is not set')),
    }
    const hosts = {
      'a.test': { auth: { username: 'u', password } },
      'b.test': { auth: { auth: base64('nocolonsecret') } },
    }
    const credentials = new ConfiguredCredentials({ hosts })
    await expect(credentials.credentialFor({ host: 'a.test' })).rejects.toThrow(
      'configs."a.test".auth: the environment variable X is not set',
    )
    const failure = credentials.credentialFor({ host: 'b.test' })
    await expect(failure).rejects.toThrow(CredentialError)
    await expect(failure).rejects.not.toThrow(/nocolonsecret/)
  })
})

describe("Docker's config.json", () => {
  const entry = (user: string) => ({ auth: base64(`${user}:secret`) })

  test.each([
    { key: 'a.test', host: 'a.test' },
    { key: 'https://a.test', host: 'a.test' },
    { key: 'https://a.test/v1/', host: 'a.test' },
    { key: 'a.test/v2/', host: 'a.test' },
    { key: 'a.test:5000', host: 'a.test:5000' },
    { key: 'https://index.docker.io/v1/', host: 'registry-1.docker.io' },
    { key: 'docker.io', host: 'registry-1.docker.io' },
  ])('finds $host under $key', ({ key, host }) => {
    const config = parseDockerConfig(JSON.stringify({ auths: { [key]: entry('u') } }))
    expect(config.auth(host)).toEqual(basic('u', 'secret'))
  })

  test.each([
    { key: 'a.test', host: 'a.test:5000' },
    { key: 'a.test:5000', host: 'a.test' },
    { key: 'a.test/team/app', host: 'a.test' },
    { key: 'a.test.evil', host: 'a.test' },
  ])('does not take $key for $host', ({ key, host }) => {
    const config = parseDockerConfig(JSON.stringify({ auths: { [key]: entry('u') } }))
    expect(config.auth(host)).toBeUndefined()
  })

  test.each([
    { entry: { auth: base64('u:p\0\0') }, credential: basic('u', 'p') },
    { entry: { username: 'u', password: 'p' }, credential: basic('u', 'p') },
    {
      entry: { auth: base64('u:p'), identitytoken: 'id' },
      credential: { kind: 'identity', token: 'id', username: 'u' },
    },
    { entry: { auth: base64('<token>:id') }, credential: { kind: 'identity', token: 'id' } },
    { entry: { registrytoken: 'ready' }, credential: { kind: 'bearer', token: 'ready' } },
    {
      entry: { auth: base64('u:p'), identitytoken: 'id', registrytoken: 'ready' },
      credential: { kind: 'bearer', token: 'ready', username: 'u' },
    },
    { entry: { auth: base64('u:p'), registrytoken: '' }, credential: basic('u', 'p') },
    { entry: {}, credential: undefined },
    { entry: null, credential: undefined },
    { entry: { auth: '!' }, credential: undefined },
  ])('reads $entry', ({ entry: written, credential }) => {
    const config = parseDockerConfig(JSON.stringify({ auths: { 'a.test': written } }))
    expect(config.auth('a.test')).toEqual(credential)
  })

  test('may have the older form, a bare map', () => {
    expect(parseDockerConfig(JSON.stringify({ 'a.test': entry('u') })).auth('a.test')).toBeDefined()
  })

  test('of any JSON object is read without an error, and any other text is refused without quoting it', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.constantFrom('auths', 'credHelpers', 'credsStore'), fc.jsonValue()),
        (json) => {
          const config = parseDockerConfig(JSON.stringify(json))
          config.auth('a.test')
          config.helper('a.test')
        },
      ),
    )
    expect(() => parseDockerConfig('{"auth":"my-secret"')).toThrow(/^is no JSON/)
  })

  test('is read again when it changes, may come later, and keeps its last value when it goes', async () => {
    const path = directory.join('config.json')
    const credentials = new ConfiguredCredentials({
      hosts: {},
      dockerConfigPaths: [path],
      now: () => now,
    })
    const current = () => credentials.credentialFor({ host: 'a.test' })
    expect(await current()).toEqual({ kind: 'anonymous' })
    await writeFile(path, JSON.stringify({ auths: { 'a.test': entry('one') } }))
    expect(await current()).toEqual({ kind: 'anonymous' })
    now += 1000
    expect(await current()).toEqual(basic('one', 'secret'))
    await writeFile(path, JSON.stringify({ auths: { 'a.test': entry('another') } }))
    now += 1000
    expect(await current()).toEqual(basic('another', 'secret'))
    await writeFile(path, '{"auths": {"a.')
    now += 1000
    expect(await current()).toEqual(basic('another', 'secret'))
    await rm(path)
    now += 1000
    expect(await current()).toEqual(basic('another', 'secret'))
  })

  test('is one of several: the first with a credential for the host wins, and a broken one hides none', async () => {
    const paths = ['broken', 'one', 'two'].map((name) => directory.join(`${name}.json`))
    const [broken = '', one = '', two = ''] = paths
    await writeFile(broken, '[]')
    await writeFile(one, JSON.stringify({ auths: { 'a.test': entry('one') } }))
    const auths = { 'a.test': entry('two'), 'b.test': entry('two') }
    await writeFile(two, JSON.stringify({ auths }))
    const credentials = new ConfiguredCredentials({ hosts: {}, dockerConfigPaths: paths })
    expect(await credentials.credentialFor({ host: 'a.test' })).toEqual(basic('one', 'secret'))
    expect(await credentials.credentialFor({ host: 'b.test' })).toEqual(basic('two', 'secret'))
    await expect(credentials.credentialFor({ host: 'c.test' })).rejects.toThrow(broken)
  })

  test('that is broken from the start is reported with its path', async () => {
    const path = directory.join('config.json')
    await writeFile(path, '[]')
    const credentials = new ConfiguredCredentials({ hosts: {}, dockerConfigPaths: [path] })
    await expect(credentials.credentialFor({ host: 'a.test' })).rejects.toThrow(
      `${path}: is no JSON object`,
    )
  })

  test('with a registry token that no header can hold is refused, without the token', async () => {
    for (const registrytoken of ['se cret', 'secret\r\nX-Injected: 1', 'sécret']) {
      const credentials = await withConfig({ auths: { 'a.test': { registrytoken } } })
      const failure = credentials.credentialFor({ host: 'a.test' })
      await expect(failure).rejects.toThrow(/config\.json: .*registrytoken.*"a\.test"/)
      await expect(failure).rejects.not.toThrow(/cret/)
      expect(await credentials.credentialFor({ host: 'b.test' })).toEqual({ kind: 'anonymous' })
    }
  })
})

describe('a credential helper', () => {
  const path = process.env['PATH']
  afterEach(() => {
    process.env['PATH'] = path
  })

  /** Installs docker-credential-<suffix> that counts its runs. */
  async function install(suffix: string, script: string): Promise<void> {
    const file = directory.join(`docker-credential-${suffix}`)
    const log = directory.join(`${suffix}.log`)
    await writeFile(file, `#!/bin/sh\nread -r url\necho "$1 $url" >>'${log}'\n${script}\n`)
    await chmod(file, 0o755)
    process.env['PATH'] = `${directory.path}:${path}`
  }

  test('is asked for its host, and others are looked up in the store and then in the file', async () => {
    await install('one', `echo '{"ServerURL":"x","Username":"helped","Secret":"s"}'`)
    await install('all', `echo 'credentials not found in native keychain'; exit 1`)
    const credentials = await withConfig({
      credHelpers: { 'a.test': 'one' },
      credsStore: 'all',
      auths: { 'b.test': { auth: base64('stored:p') } },
    })
    expect(await credentials.credentialFor({ host: 'a.test' })).toEqual(basic('helped', 's'))
    expect(await credentials.credentialFor({ host: 'b.test' })).toEqual(basic('stored', 'p'))
    expect(await credentials.credentialFor({ host: 'c.test' })).toEqual({ kind: 'anonymous' })
  })

  test('gives identity tokens, and is asked for Docker Hub by its URL, and not each time', async () => {
    await install(
      'hub',
      `[ "$url" = https://index.docker.io/v1/ ] && echo '{"Username":"<token>","Secret":"id"}'`,
    )
    const credentials = await withConfig({ credHelpers: { 'https://index.docker.io/v1/': 'hub' } })
    const host = 'registry-1.docker.io'
    const both = [credentials.credentialFor({ host }), credentials.credentialFor({ host })]
    expect(await Promise.all(both)).toEqual([
      { kind: 'identity', token: 'id' },
      { kind: 'identity', token: 'id' },
    ])
    expect(await readFile(directory.join('hub.log'), 'utf8')).toBe(
      'get https://index.docker.io/v1/\n',
    )
  })

  test.each([
    { what: 'fails', suffix: 'bad', script: 'echo my-secret; exit 3', says: /failed \(3\)/ },
    { what: 'answers nonsense', suffix: 'bad', script: 'echo my-secret', says: /no credential/ },
    { what: 'never ends its answer', suffix: 'bad', script: 'yes my-secret', says: /too long/ },
    { what: 'is not there', suffix: 'absent', script: '', says: /no such program/ },
    { what: 'has no name', suffix: '../x', script: '', says: /no name of a credential helper/ },
  ])(
    'that $what is an error that does not show what it printed',
    async ({ suffix, script, says }) => {
      await install('bad', script)
      const credentials = await withConfig({ credsStore: suffix })
      const failure = credentials.credentialFor({ host: 'a.test' })
      await expect(failure).rejects.toThrow(CredentialError)
      await expect(failure).rejects.toThrow(says)
      await expect(failure).rejects.not.toThrow(/my-secret/)
    },
  )
})

test('a fingerprint tells credentials apart and holds nothing of them', () => {
  const one = fingerprintOf({ kind: 'basic', username: 'u', password: 'secret' })
  expect(fingerprintOf({ kind: 'basic', username: 'u', password: 'secret' })).toBe(one)
  expect(fingerprintOf({ kind: 'basic', username: 'u', password: 'other' })).not.toBe(one)
  expect(fingerprintOf({ kind: 'identity', token: 'secret', username: 'u' })).not.toBe(one)
  expect(one).not.toContain('secret')
})
