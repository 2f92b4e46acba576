// A hundred reloads under load, one in three of them broken: no request fails, the good ones take
// effect, the broken ones are named.
import { readdir, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { type Digest, digestOf } from '../src/oci/digest.ts'
import { mirror, REGISTRY, ReloadWorld, until, type Written } from './support/reload-world.ts'

const MIB = 1024 * 1024

const RELOADS = 100
/** Takes 2.4 s and so many reloads. */
const SLOW = 1.5 * MIB
const drip = { bytes: MIB / 16, everyMs: 100 }
const COLD = 256 * 1024

/** What is wrong with a third of them, and how it is named. */
const broken = (world: ReloadWorld, good: Written): [Written | string, RegExp][] => {
  const host = (entry: Written) => ({ ...good, configs: { 'a.test': entry } })
  const missing = world.directory.join('none')
  const noPem = world.directory.join('no.pem')
  return [
    ['listen: [', /chandlery\.yaml:1:\d+/],
    [{ ...good, freshnes: {} }, /freshnes: unknown key; did you mean freshness/],
    [host({ tls: { ca_file: noPem } }), /ca_file: .*no\.pem: holds no PEM/],
    [host({ auth: { username: 'u', password: { file: missing } } }), /password: .*none: there is/],
    [{ ...good, dockerConfig: noPem }, /dockerConfig: .*no\.pem: is no JSON/],
    [{ ...good, freshness: { ttl: 'soon' } }, /freshness\.ttl: /],
    [{ ...good, mirrors: { [REGISTRY]: { endpoint: ['ftp://x'] } } }, /endpoint\[0\]: .*ftp/],
    [{ ...good, mirrors: { [REGISTRY]: { rewrite: { '(': 'x' } } } }, /rewrite\."\(": /],
    [host({ tls: { cert_file: noPem, key_file: noPem } }), /cert_file: .*holds no PEM/],
    [{ ...good, admin: { token: { env: 'NOT_SET' } } }, /admin\.token: .*NOT_SET is not set/],
    [{ ...good, tls: { certFile: noPem, keyFile: noPem } }, /tls: .*no\.pem with the key/],
  ]
}

/** Pulls again and again until it is told to stop; everything that goes wrong is noted. */
class Load {
  readonly failures: string[] = []
  pulls = 0
  cold = 0
  slow = 0
  #stopped = false
  readonly #running: Promise<void>[] = []

  start(pull: (round: number) => Promise<void>): void {
    const run = async () => {
      for (let round = 0; !this.#stopped; round++) {
        await pull(round).catch((error: unknown) => this.failures.push(String(error)))
        this.pulls += 1
      }
    }
    this.#running.push(run())
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#running)
  }
}

async function get({ client }: ReloadWorld, path: string): Promise<Buffer> {
  const answer = await client.get(path)
  if (answer.status !== 200) throw new Error(`${answer.status} of ${path}: ${answer.text}`)
  return answer.bytes
}

async function getBlob(world: ReloadWorld, digest: string): Promise<void> {
  const bytes = await get(world, `blobs/${digest}`)
  if (digestOf(bytes) !== digest) throw new Error(`${digest} has other bytes`)
}

/** Both upstreams have it, under every name. */
function addBlob(world: ReloadWorld, seed: string, size: number): Digest {
  world.upstream.addSyntheticBlob(size, seed)
  return world.other.addSyntheticBlob(size, seed).digest
}

function startLoad(world: ReloadWorld, digest: string, blobs: readonly string[]): Load {
  const load = new Load()
  for (let client = 0; client < 3; client++) {
    load.start(async (round) => {
      const reference = round % 2 === 0 ? 'latest' : digest
      const bytes = await get(world, `manifests/${reference}`)
      if (digestOf(bytes) !== digest) throw new Error('another manifest')
      await getBlob(world, blobs[round % blobs.length] ?? '')
      await sleep(2)
    })
  }
  for (const client of [1, 2]) {
    load.start(async (round) => {
      const blob = addBlob(world, `slow ${client} ${round}`, SLOW)
      for (const registry of [world.upstream, world.other])
        registry.fault({ match: { digest: blob }, drip })
      await getBlob(world, blob)
      load.slow += 1
    })
  }
  load.start(async (round) => {
    await getBlob(world, addBlob(world, `cold ${round}`, COLD))
    load.cold += 1
    await sleep(20)
  })
  return load
}

const openFiles = async () => (await readdir('/proc/self/fd')).length
const listeners = () =>
  process.getActiveResourcesInfo().filter((each) => each === 'TCPServerWrap').length

/** A configuration like no other: its endpoint, the name there, the lifetime of tags, its connections. */
const goodConfig = (world: ReloadWorld, number: number): Written => ({
  ...mirror(number % 2 === 0 ? world.upstream.url : world.other.url, {
    '^team/(.+)$': `g${number}/$1`,
  }),
  freshness: { ttl: number % 3 === 0 ? '1h' : '0s' },
  timeouts: { connect: `${10_000 + number}ms` },
})

describe('a hundred reloads under load', () => {
  test('fail no request, and the good ones take effect and the broken ones are named', async () => {
    await using world = await ReloadWorld.create()
    let digest = ''
    let blobs: string[] = []
    for (const registry of [world.upstream, world.other]) {
      for (let number = 0; number <= RELOADS; number++) {
        const image = registry.addImage(`g${number}/app`, 'latest', { seed: 'same' })
        registry.tag(`g${number}/app`, `only-${number}`, image.digest)
        digest = image.digest
        blobs = image.blobs.map((each) => each.digest)
      }
    }
    await writeFile(world.directory.join('no.pem'), 'nothing of use')
    await world.start(goodConfig(world, 0))
    await getBlob(world, blobs[0] ?? '')
    const pulling = startLoad(world, digest, blobs)
    await until(() => pulling.pulls > 20 && pulling.cold > 0, 'pulls')
    const before = { files: await openFiles(), listeners: listeners() }
    let inForce = 0
    let refused = 0
    for (let number = 1; number <= RELOADS; number++) {
      if (number % 3 === 0) {
        const all = broken(world, goodConfig(world, number))
        const [config, named] = all[refused % all.length]!
        await world.write(config)
        const { status, problems } = await world.reload()
        refused += 1
        expect([status, problems.join('\n')]).toEqual([422, expect.stringMatching(named)])
        const { status: ready, text } = await world.client.admin('/readyz?verbose')
        expect(ready).toBe(200)
        expect(text).toMatch(named)
        expect(await world.client.metric('chandlery_config_last_reload_successful')).toBe(0)
      } else {
        await world.write(goodConfig(world, number))
        const { status, result, restart } = await world.reload()
        expect([status, result, restart]).toEqual([200, 'reloaded', []])
        expect(await world.client.metric('chandlery_config_last_reload_successful')).toBe(1)
        inForce = number
      }
      // What comes now goes by the last good one: only there is this tag.
      await get(world, `manifests/only-${inForce}`)
      const [asked, idle] =
        inForce % 2 === 0 ? [world.upstream, world.other] : [world.other, world.upstream]
      const reference = `only-${inForce}`
      expect(asked.requests.filter((each) => each.reference === reference)).not.toEqual([])
      expect(idle.requests.filter((each) => each.reference === reference)).toEqual([])
      await sleep(5)
    }
    await pulling.stop()

    expect(pulling.failures).toEqual([])
    expect(pulling.pulls).toBeGreaterThan(RELOADS)
    expect(pulling.cold).toBeGreaterThan(10)
    expect(pulling.slow).toBeGreaterThan(2)
    expect(refused).toBe(33)
    const errors = world.server.log.filter(({ level }) => level === 'error')
    expect(errors).toHaveLength(refused)
    expect(await world.client.metric('chandlery_config_reloads_total{result="refused"}')).toBe(
      refused,
    )
    expect(await world.client.metric('chandlery_config_reloads_total{result="reloaded"}')).toBe(67)
    expect((await world.client.admin('/readyz?verbose')).text).not.toContain('configuration:')
    expect(listeners()).toBe(before.listeners)
    // The connections of those that came before are closed with what ran on them.
    const connections = () => world.upstream.connections + world.other.connections
    await until(() => connections() <= 4, 'closed connections')
    await until(async () => (await openFiles()) <= before.files + 4, 'closed files')
  }, 60_000)
})
