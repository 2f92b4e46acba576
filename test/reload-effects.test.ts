// What a reload brings into force, what it refuses, and what it leaves as it was; on real sockets and files.
import { execFileSync } from 'node:child_process'
import { copyFile, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { describe, expect, test } from 'vitest'
import { Chandlery } from './e2e/chandlery.ts'
import { createAuthority } from './support/certificates.ts'
import { syntheticBytes } from './support/content.ts'
import type { TestRegistry } from './support/registry.ts'
import { startRegistry } from './support/registry.ts'
import { mirror, NS, REGISTRY, ReloadWorld, until, type Written } from './support/reload-world.ts'

const MIB = 1024 * 1024

/** Files are looked at so often. */
const OFTEN = { lookEveryMs: 20 }

/** How often this was logged. */
const times = ({ server }: ReloadWorld, message: string) =>
  server.log.filter(({ msg }) => msg === message).length

/** REGISTRY behind these endpoints. */
const listing = (endpoint: string[], more: Written = {}): Written => ({
  defaultEndpoints: false,
  mirrors: { [REGISTRY]: { endpoint, ...more } },
})

const isGood = async ({ client }: ReloadWorld) =>
  (await client.metric('chandlery_config_last_reload_successful')) === 1

const host = (entry: Written): Written => ({ 'a.test': entry })

function stateOf({ client }: ReloadWorld, registry: TestRegistry, state: string): Promise<number> {
  const labels = `endpoint="${registry.url}/v2",state="${state}"`
  return client.metric(`chandlery_upstream_endpoint_state{${labels}}`)
}

function nameServed(port: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().subject.CN)
      socket.destroy()
    })
    socket.on('error', reject)
  })
}

describe.concurrent('during a reload', () => {
  test('a download continues from the endpoint it began with, whatever is configured in the meantime', async () => {
    await using world = await ReloadWorld.create()
    const size = 2 * MIB
    const { digest } = world.upstream.addSyntheticBlob(size, 'long')
    world.upstream.fault({ match: { digest }, drip: { bytes: MIB / 8, everyMs: 50 } })
    await world.start(mirror(world.upstream.url))
    const response = await fetch(world.url(`team/app/blobs/${digest}`))
    await world.write(mirror(world.other.url))
    expect((await world.reload()).result).toBe('reloaded')
    const bytes = Buffer.from(await response.arrayBuffer())
    expect(bytes.equals(syntheticBytes('long', 0, size))).toBe(true)
    expect(world.other.requestsFor(digest)).toEqual([])
  })

  test('a request that waits for a dead endpoint does not make later ones wait for it', async () => {
    await using world = await ReloadWorld.create()
    const image = world.other.addImage('team/app', 'latest')
    world.upstream.fault({ stall: 'headers' })
    await world.start(mirror(world.upstream.url))
    const leaving = new AbortController()
    const first = fetch(world.url('team/app/manifests/latest'), leaving)
    first.catch(() => undefined)
    await until(() => world.upstream.requests.length > 0, 'the first request')
    await world.write(mirror(world.other.url))
    await world.reload()
    const second = await world.client.manifest('latest')
    expect(second.headers.get('docker-content-digest')).toBe(image.digest)
    leaving.abort()
  })

  test('a request of several steps takes them all as it began, though its registry is no longer served', async () => {
    await using world = await ReloadWorld.create()
    world.upstream.addImage('team/app', 'latest', { seed: 'former' })
    const config = {
      ...mirror(world.upstream.url),
      freshness: { ttl: '0s', revalidateTimeout: '20s' },
    }
    await world.start(config)
    expect((await world.client.manifest('latest')).status).toBe(200)
    const moved = world.upstream.addImage('team/app', 'latest', { seed: 'later' })
    world.upstream.fault({ match: { kind: 'manifest', method: 'HEAD' }, delayMs: 300 })
    const asked = world.upstream.requests.length
    const answer = fetch(world.url('team/app/manifests/latest'))
    await until(() => world.upstream.requests.length > asked, 'the first step')
    await world.write({ ...config, mirrors: { 'another.test': { endpoint: [world.other.url] } } })
    expect((await world.reload()).result).toBe('reloaded')
    expect((await world.client.manifest('latest')).status).toBe(404)
    expect((await answer).headers.get('docker-content-digest')).toBe(moved.digest)
  })

  test('a tag that was fresh for a long time is revalidated when it no longer is', async () => {
    await using world = await ReloadWorld.create()
    world.upstream.addImage('team/app', 'latest', { seed: 'former' })
    const config = (ttl: string) => ({ ...mirror(world.upstream.url), freshness: { ttl } })
    await world.start(config('1h'))
    expect((await world.client.manifest('latest')).status).toBe(200)
    const moved = world.upstream.addImage('team/app', 'latest', { seed: 'later' })
    await world.write(config('0s'))
    expect((await world.reload()).changed).toEqual(['freshness.ttl'])
    const found = await world.client.manifest('latest')
    expect(found.headers.get('docker-content-digest')).toBe(moved.digest)
  })

  test('connections that would now be made differently are closed, and all others are kept', async () => {
    await using world = await ReloadWorld.create()
    world.upstream.addImage('team/app', 'one')
    world.upstream.addImage('team/app', 'two')
    const config = { ...mirror(world.upstream.url), log: { level: 'info' } }
    await world.start(config)
    expect((await world.client.manifest('one')).status).toBe(200)
    await world.write({
      ...config,
      ...mirror(world.upstream.url, { '^x$': 'y' }),
      fetch: { connections: 2 },
    })
    expect((await world.reload()).result).toBe('reloaded')
    expect((await world.client.manifest('two')).status).toBe(200)
    expect(world.upstream.accepted).toBe(1)
    await world.write({ ...config, timeouts: { connect: '9s' } })
    expect((await world.reload()).result).toBe('reloaded')
    // The registry itself would close them after 5 s.
    const closing = performance.now()
    await until(() => world.upstream.connections === 0, 'closed connections')
    expect(performance.now() - closing).toBeLessThan(4000)
  })

  test('the state of an endpoint is kept, unless it is now asked differently or no longer listed', async () => {
    await using world = await ReloadWorld.create()
    await world.upstream.stop()
    await world.other.stop()
    const endpoints = [world.upstream.url, world.other.url]
    await world.start(listing(endpoints))
    for (let tries = 0; tries < 4; tries++) await world.client.manifest(`${tries}`)
    expect([
      await stateOf(world, world.upstream, 'open'),
      await stateOf(world, world.other, 'open'),
    ]).toEqual([1, 1])
    await world.write(listing(endpoints, { rewrite: { '^x$': 'y' } }))
    await world.reload()
    expect([
      await stateOf(world, world.upstream, 'open'),
      await stateOf(world, world.other, 'open'),
    ]).toEqual([1, 1])
    const configs = { [world.upstream.host]: { timeouts: { connect: '1s' } } }
    await world.write({ ...listing(endpoints), configs })
    await world.reload()
    expect([
      await stateOf(world, world.upstream, 'ok'),
      await stateOf(world, world.other, 'open'),
    ]).toEqual([1, 1])
    await world.write(listing([world.upstream.url]))
    await world.reload()
    expect([
      await stateOf(world, world.upstream, 'ok'),
      await stateOf(world, world.other, 'ok'),
    ]).toEqual([1, NaN])
  })

  test('a 404 is forgotten where its content is now requested differently', async () => {
    await using world = await ReloadWorld.create()
    const image = world.other.addImage('team/app', 'latest')
    await world.start(mirror(world.upstream.url))
    expect((await world.client.manifest('latest')).status).toBe(404)
    await world.write(mirror(world.other.url))
    await world.reload()
    const found = await world.client.manifest('latest')
    expect(found.headers.get('docker-content-digest')).toBe(image.digest)
  })

  test('an endpoint that failed under one configuration starts afresh under another that asks it differently', async () => {
    await using world = await ReloadWorld.create()
    await using authority = await createAuthority()
    const tls = await authority.server('127.0.0.1')
    await using secure = await startRegistry({ tls })
    const image = secure.addImage('team/app', 'latest')
    await world.start(mirror(secure.url))
    expect((await world.client.manifest('latest')).status).toBe(502)
    await world.write({
      ...mirror(secure.url),
      configs: { [secure.host]: { tls: { ca_file: authority.ca.certFile } } },
    })
    const { changed } = await world.reload()
    expect(changed).toEqual([`configs."${secure.host}"`])
    const found = await world.client.manifest('latest')
    expect(found.headers.get('docker-content-digest')).toBe(image.digest)
  })
})

describe.concurrent('after a file changes', () => {
  test('the configuration is read automatically, and a bad one is reported once and replaced by the next', async () => {
    await using world = await ReloadWorld.create()
    await world.start(mirror(world.upstream.url), OFTEN)
    await world.write('mirrors: [')
    const refusal = 'the new configuration is invalid: the old one stays in use'
    await until(() => times(world, refusal) === 1, 'the refusal')
    await sleep(150)
    expect(times(world, refusal)).toBe(1)
    await world.write(mirror(world.other.url))
    await until(() => times(world, 'the configuration has changed') === 1, 'the change')
    const image = world.other.addImage('team/app', 'latest')
    const found = await world.client.manifest('latest')
    expect(found.headers.get('docker-content-digest')).toBe(image.digest)
  })

  test('a refused configuration is accepted when the file that it lacks appears', async () => {
    await using world = await ReloadWorld.create()
    await world.start(mirror(world.upstream.url), OFTEN)
    const secret = world.directory.join('password')
    const auth = { username: 'bot', password: { file: secret } }
    await world.write({ ...mirror(world.upstream.url), configs: { 'a.test': { auth } } })
    await until(async () => !(await isGood(world)), 'a refusal')
    expect((await world.client.admin('/readyz?verbose')).text).toMatch(
      /password: .*there is no such file/,
    )
    await writeFile(secret, 'word')
    await until(() => isGood(world), 'a good one')
    expect((await world.client.admin('/readyz?verbose')).text).not.toContain('configuration:')
  })

  test('the certificate is replaced when Kubernetes swaps it, and stays while the new one is bad', async () => {
    await using world = await ReloadWorld.create()
    await using authority = await createAuthority()
    const mount = world.directory.join('tls')
    const swap = async (version: string, cert: string, key: string) => {
      await mkdir(`${mount}/${version}`, { recursive: true })
      await copyFile(cert, `${mount}/${version}/tls.crt`)
      await copyFile(key, `${mount}/${version}/tls.key`)
      await symlink(version, `${mount}/next`)
      await rename(`${mount}/next`, `${mount}/..data`)
    }
    const [one, two] = [await authority.server('one.test'), await authority.server('two.test')]
    await swap('..1', one.certFile, one.keyFile)
    for (const name of ['tls.crt', 'tls.key']) await symlink(`..data/${name}`, `${mount}/${name}`)
    const tls = { certFile: `${mount}/tls.crt`, keyFile: `${mount}/tls.key` }
    await world.start({ ...mirror(world.upstream.url), tls }, OFTEN)
    const port = Number(new URL(world.server.url).port)
    expect(await nameServed(port)).toBe('one.test')
    await swap('..2', two.certFile, one.keyFile)
    await until(async () => !(await isGood(world)), 'a refusal')
    expect((await world.client.admin('/readyz?verbose')).text).toMatch(
      /tls: .*tls\.crt with the key .*mismatch/i,
    )
    expect(await nameServed(port)).toBe('one.test')
    await swap('..3', two.certFile, two.keyFile)
    await until(async () => (await nameServed(port)) === 'two.test', 'the new certificate')
  })

  test('the certificate is renewed while the configuration is refused for something else', async () => {
    await using world = await ReloadWorld.create()
    await using authority = await createAuthority()
    const [one, two] = [await authority.server('one.test'), await authority.server('two.test')]
    const [certFile, keyFile] = [world.directory.join('tls.crt'), world.directory.join('tls.key')]
    const put = async (pair: typeof one) => {
      await copyFile(pair.certFile, certFile)
      await copyFile(pair.keyFile, keyFile)
    }
    await put(one)
    const config = { ...mirror(world.upstream.url), tls: { certFile, keyFile } }
    await world.start(config, OFTEN)
    await world.write({ ...config, freshnes: {} })
    await until(async () => !(await isGood(world)), 'a refusal')
    await put(two)
    const port = Number(new URL(world.server.url).port)
    await until(async () => (await nameServed(port)) === 'two.test', 'the new certificate')
    expect(await isGood(world)).toBe(false)
  })

  test('an authority that goes away or is replaced by nonsense keeps its last good value', async () => {
    await using world = await ReloadWorld.create()
    await using authority = await createAuthority()
    await using secure = await startRegistry({ tls: await authority.server('127.0.0.1') })
    secure.addImage('team/app', 'one')
    secure.addImage('team/app', 'two')
    secure.addImage('team/app', 'three')
    const ca = world.directory.join('ca.pem')
    await copyFile(authority.ca.certFile, ca)
    const configs = { [secure.host]: { tls: { ca_file: ca } } }
    await world.start({ ...mirror(secure.url), configs, timeouts: { connect: '2s' } }, OFTEN)
    expect((await world.client.manifest('one')).status).toBe(200)
    await writeFile(ca, 'nonsense')
    await until(async () => !(await isGood(world)), 'a refusal')
    // Files are looked at when they are used, at most once a second, and connections are kept.
    const lookAgain = async () => {
      await sleep(1100)
      await secure.stop()
      await secure.start()
    }
    await lookAgain()
    expect((await world.client.manifest('two')).status).toBe(200)
    await rm(ca)
    await lookAgain()
    expect((await world.client.manifest('three')).status).toBe(200)
    await copyFile(authority.ca.certFile, ca)
    await until(() => isGood(world), 'a good one')
  })
})

describe('a configuration that cannot be used', () => {
  test.each([
    [
      'password',
      (file: string) => ({ configs: host({ auth: { username: 'u', password: { file } } }) }),
    ],
    ['ca_file', (file: string) => ({ configs: host({ tls: { ca_file: file } }) })],
    ['admin.token', (file: string) => ({ admin: { listen: '127.0.0.1:0', token: { file } } })],
    ['dockerConfig', (file: string) => ({ dockerConfig: file })],
    ['tls.certFile', (file: string) => ({ tls: { certFile: file, keyFile: file } })],
  ])('with a pipe as %s is refused, and nobody waits for its writer', async (key, naming) => {
    await using world = await ReloadWorld.create()
    await world.start(mirror(world.upstream.url))
    const pipe = world.directory.join('pipe')
    execFileSync('mkfifo', [pipe])
    await world.write({ ...mirror(world.upstream.url), ...naming(pipe) })
    const { status, problems } = await world.reload()
    expect([status, problems.join()]).toEqual([422, expect.stringContaining('not a regular file')])
    expect(problems.join()).toContain(key)
    await world.write(mirror(world.upstream.url))
    expect((await world.reload()).status).toBe(200)
  })

  test('that is a directory is reported as one', async () => {
    await using world = await ReloadWorld.create()
    await world.start(mirror(world.upstream.url))
    await rm(world.server.file)
    await mkdir(world.server.file)
    expect((await world.reload()).problems.join()).toMatch(
      /chandlery\.yaml: it is a directory; name/,
    )
    await rm(world.server.file, { recursive: true })
    await world.write(mirror(world.upstream.url))
    expect((await world.reload()).status).toBe(200)
  })
})

describe('a change that needs a restart', () => {
  test('is named, and the rest of the same file takes effect', async () => {
    await using world = await ReloadWorld.create()
    await world.start(mirror(world.upstream.url))
    const image = world.other.addImage('team/app', 'latest')
    const storage = { directory: world.directory.join('elsewhere') }
    await world.write({ ...mirror(world.other.url), storage, listen: '127.0.0.1:1' })
    const { status, restart } = await world.reload()
    expect([status, restart]).toEqual([200, ['listen', 'storage.directory']])
    const found = await world.client.manifest('latest')
    expect(found.headers.get('docker-content-digest')).toBe(image.digest)
    const line = 'configuration: a restart is needed for listen, storage.directory'
    expect((await world.client.admin('/readyz?verbose')).text).toContain(line)
    await world.write(mirror(world.other.url))
    expect((await world.reload()).restart).toEqual([])
    expect((await world.client.admin('/readyz?verbose')).text).not.toContain('restart')
  })

  test('is the first certificate, and not another one', async () => {
    await using world = await ReloadWorld.create()
    await using authority = await createAuthority()
    const [one, two] = [await authority.server('one.test'), await authority.server('two.test')]
    const tls = ({ certFile, keyFile }: typeof one) => ({ certFile, keyFile })
    await world.start(mirror(world.upstream.url))
    await world.write({ ...mirror(world.upstream.url), tls: tls(one) })
    expect((await world.reload()).restart).toEqual(['tls'])
    await world.server.stop()
    await world.start({ ...mirror(world.upstream.url), tls: tls(one) })
    await world.write({ ...mirror(world.upstream.url), tls: tls(two) })
    expect(await world.reload()).toMatchObject({
      changed: ['tls.certFile', 'tls.keyFile'],
      restart: [],
    })
    await world.write(mirror(world.upstream.url))
    expect((await world.reload()).restart).toEqual(['tls'])
  })
})

describe('POST /-/reload', () => {
  test('says that nothing changed when the file was only rewritten', async () => {
    await using world = await ReloadWorld.create()
    await world.start(mirror(world.upstream.url))
    await world.write(`# a comment\n${JSON.stringify(world.whole(mirror(world.upstream.url)))}`)
    expect(await world.reload()).toMatchObject({ status: 200, result: 'unchanged', changed: [] })
  })

  test('accepts the current token of a file that rotates', async () => {
    await using world = await ReloadWorld.create()
    const token = world.directory.join('token')
    await writeFile(token, 'first\n')
    const config = { admin: { listen: '127.0.0.1:0', token: { file: token } } }
    await world.start(config)
    const send = (word: string) =>
      world.reload({ origin: 'http://a.test', authorization: `Bearer ${word}` })
    expect((await send('first')).status).toBe(200)
    expect((await send('second')).status).toBe(401)
    await writeFile(token, 'second\n')
    expect((await send('first')).status).toBe(401)
    expect((await send('second')).status).toBe(200)
    await writeFile(token, '')
    expect((await send('')).status).toBe(401)
    expect((await send('second')).status).toBe(401)
  })

  test('answers many requests at once with at most two reloads', async () => {
    await using world = await ReloadWorld.create()
    await world.start(mirror(world.upstream.url))
    await world.write(mirror(world.other.url))
    const answers = await Promise.all(Array.from({ length: 20 }, () => world.reload()))
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200))
    const reloaded = await world.client.metric('chandlery_config_reloads_total{result="reloaded"}')
    const unchanged = await world.client.metric(
      'chandlery_config_reloads_total{result="unchanged"}',
    )
    expect(reloaded).toBe(1)
    expect(unchanged).toBeLessThan(20)
  })
})

describe('a hangup signal', () => {
  test('makes the real process read its configuration again', async () => {
    await using world = await ReloadWorld.create()
    const config = mirror(world.upstream.url)
    await using server = await Chandlery.create({ directory: world.directory.path, config })
    await server.start()
    const image = world.other.addImage('team/app', 'latest')
    const file = world.directory.join('chandlery.yaml')
    const written = await readFile(file, 'utf8')
    await writeFile(file, written.replace(world.upstream.url, world.other.url))
    process.kill(server.pid, 'SIGHUP')
    const digest = async () => {
      const found = await fetch(`${server.url}/v2/team/app/manifests/latest${NS}`)
      return found.headers.get('docker-content-digest')
    }
    await until(async () => (await digest()) === image.digest, 'what the other has')
    await until(async () => (await server.log()).includes('"trigger":"SIGHUP"'), 'the log')
  })
})
