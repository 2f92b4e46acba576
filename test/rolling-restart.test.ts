// Rolling restarts of the real process under constant pulls by containerd's logic: nothing that a node
// asks for may fail, whatever way it comes to the mirror, and nothing is fetched twice without need.
// ROLLING_RESTARTS: how many restarts each scenario makes (default 2); ROLLING_SEED: as printed by a run.
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { Digest } from '../src/oci/digest.ts'
import { Chandlery } from './e2e/chandlery.ts'
import { answers } from './e2e/processes.ts'
import { REGISTRY } from './support/client.ts'
import { ContainerdClient, type ContainerdOptions } from './support/containerd-client.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { ServiceFront } from './support/service-front.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'
import { World } from './support/world.ts'
import { until } from './support/until.ts'

const MIB = 1024 * 1024
const REPOSITORY = 'team/app'
const RESTARTS = Number(process.env.ROLLING_RESTARTS ?? 2)
const SEED = Number(process.env.ROLLING_SEED ?? Math.floor(Math.random() * 2 ** 31))
/** A download of the largest takes longer than the server has to end. */
const DRIP = { bytes: 256 * 1024, everyMs: 15 }
const SIZES = [100_000, MIB, 5 * MIB, 20 * MIB]
const SLOW_BYTES_PER_SECOND = 2 * MIB
const TIMES = { shutdownDelay: '300ms', shutdownTimeout: '1s' }
/** Of a request that is cut, so much may be on its way, in bytes. */
const IN_FLIGHT = 6 * MIB
/** So much an old server fetches for its clients, in bytes, while the new one has the directory. */
const PASSING = 20 * MIB
const WAIT_MS = 20_000
const LIMIT_MS = 60_000 + RESTARTS * 12_000

/** One way to the mirror: its registry, its cache directory, and what was pulled. */
class RollingWorld extends World {
  readonly random: () => number
  readonly #chandleries: Chandlery[] = []

  private constructor(upstream: TestRegistry, directory: TemporaryDirectory, seed: number) {
    super(directory, [upstream], { config: TIMES })
    this.random = randomOf(seed)
  }

  static async create(number: number): Promise<RollingWorld> {
    const upstream = await startRegistry()
    upstream.fault({ match: { kind: 'blob', method: 'GET' }, drip: DRIP })
    return new RollingWorld(upstream, await temporaryDirectory(), SEED + number)
  }

  /** A server on the one cache directory, not started yet. */
  async pod(name: string): Promise<Chandlery> {
    const chandlery = await Chandlery.create({
      directory: this.directory.join(name),
      cache: this.cache(),
      config: this.config,
    })
    this.#chandleries.push(chandlery)
    return chandlery
  }

  /** Starts it, and has it hold one image. */
  async startWarm(chandlery: Chandlery): Promise<void> {
    await chandlery.start()
    this.addImage('held', [200_000, 3 * MIB])
    using client = new ContainerdClient({ hosts: [chandlery.url], registry: REGISTRY })
    await client.pull(REPOSITORY, 'held')
  }

  addImage(tag: string, sizes: readonly number[]): void {
    const { upstream } = this
    if (upstream.content.repository(REPOSITORY).tags.has(tag)) return
    const layers = sizes.map((size, index) => {
      const descriptor = upstream.addSyntheticBlob(size, `${SEED} ${tag} ${index}`)
      const content = upstream.content.blob(REPOSITORY, descriptor.digest)
      if (!content) throw new Error('the test registry lost its blob')
      return { descriptor, content }
    })
    upstream.addImage(REPOSITORY, tag, { layers })
  }

  /** Of blobs: what the mirror asked the registry for, in bytes, and what of that it had been sent before. */
  fetched(): { sent: number; again: number } {
    const sentOf = new Map<Digest, number>()
    for (const { digest, kind, headers, bytes } of this.upstream.requests) {
      if (kind !== 'blob' || !digest) continue
      if (String(headers['user-agent']).startsWith('containerd')) continue
      sentOf.set(digest, (sentOf.get(digest) ?? 0) + bytes)
    }
    let [sent, again] = [0, 0]
    for (const [digest, bytes] of sentOf) {
      sent += bytes
      again += Math.max(0, bytes - (this.upstream.content.blob(REPOSITORY, digest)?.size ?? 0))
    }
    return { sent, again }
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#chandleries.map((each) => each.stop('SIGKILL')))
    await super[Symbol.asyncDispose]()
  }
}

/** A sequence that is the same for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

function heldTag(): string {
  return 'held'
}

/** Pulls one after the other until it is told to end. */
class Load {
  readonly failures: string[] = []
  pulls = 0
  resumed = 0
  elsewhere = 0
  #ending = false
  #cold = 0
  readonly #clients: ContainerdClient[] = []
  readonly #world: RollingWorld
  readonly #workers: Promise<void>[]

  constructor(world: RollingWorld, hosts: readonly string[]) {
    this.#world = world
    const fast = { hosts, registry: REGISTRY }
    const slow = { ...fast, bytesPerSecond: SLOW_BYTES_PER_SECOND }
    const cold = () => this.#coldTag()
    this.#workers = [
      this.#work(fast, heldTag),
      this.#work(slow, heldTag),
      this.#work(fast, cold),
      this.#work(fast, cold),
      this.#work(slow, cold),
    ]
  }

  /** Lets every pull that is running come to its end, without slowing it down any longer. */
  async end(): Promise<void> {
    this.#ending = true
    for (const client of this.#clients) client.bytesPerSecond = undefined
    await Promise.all(this.#workers)
  }

  // Two workers after each other want the same one: it is cold for the first, arriving for the second.
  #coldTag(): string {
    const number = this.#cold++ >> 1
    const tag = `cold-${number}`
    const sizes = [SIZES[number % SIZES.length]!, SIZES[(number + 1) % SIZES.length]!]
    this.#world.addImage(tag, sizes)
    return tag
  }

  async #work(options: ContainerdOptions, tagOf: () => string): Promise<void> {
    using client = new ContainerdClient(options)
    this.#clients.push(client)
    while (!this.#ending) {
      const tag = tagOf()
      try {
        const pulled = await client.pull(REPOSITORY, tag)
        this.pulls += 1
        this.resumed += pulled.resumed
        this.elsewhere += pulled.elsewhere
      } catch (error) {
        this.failures.push(`${tag}: ${String(error)}`)
        await sleep(20)
      }
    }
  }
}

/** When it says so in its log, in milliseconds since 1970: the last of such lines. */
async function toldAt(chandlery: Chandlery, what: string): Promise<number> {
  const lines = (await chandlery.log()).split('\n').filter((line) => line.includes(what))
  return Date.parse(JSON.parse(lines.at(-1) ?? '{}').time)
}

/** From the last answer of one, which was told to end at `sinceMs`, to the readiness of the next. */
async function gapBetween(old: Chandlery, next: Chandlery, sinceMs: number): Promise<number> {
  const readyAtMs = async () => await toldAt(next, '"msg":"ready"')
  // Its log may be behind.
  await until(async () => (await readyAtMs()) > sinceMs)
  return (await readyAtMs()) - (await toldAt(old, '"msg":"request"'))
}

interface Expected {
  /** At most fetched twice in each restart. */
  readonly againBytes: number
  /** For the report. */
  readonly more?: object
}

function expectNothingLost(
  way: string,
  world: RollingWorld,
  load: Load,
  { againBytes, more }: Expected,
): void {
  const { pulls, resumed, elsewhere, failures } = load
  const { sent, again } = world.fetched()
  const figures = { seed: SEED, restarts: RESTARTS, pulls, failed: failures.length, resumed }
  const report = JSON.stringify({ ...figures, elsewhere, sent, again, ...more })
  process.stdout.write(`${way}: ${report}\n`)
  expect(failures).toEqual([])
  expect(pulls).toBeGreaterThan(RESTARTS)
  expect(again).toBeLessThan(RESTARTS * againBytes)
}

/** The old one ends wholly, then the new one starts with its addresses: a StatefulSet's pod. */
async function restart(chandlery: Chandlery): Promise<void> {
  expect(await chandlery.stop('SIGTERM')).toBe(0)
  await chandlery.start()
}

describe.concurrent('a rolling restart under constant pulls', () => {
  test(
    'of one pod at a time loses nothing, with the registry itself as the second host',
    async () => {
      await using world = await RollingWorld.create(0)
      const chandlery = await world.pod('one')
      await world.startWarm(chandlery)
      const load = new Load(world, [chandlery.url, world.upstream.url])
      for (let i = 0; i < RESTARTS; i++) {
        await sleep(world.random() * 700)
        await restart(chandlery)
      }
      await load.end()
      expectNothingLost('a pod at a time, the registry behind it', world, load, {
        againBytes: IN_FLIGHT,
      })
    },
    LIMIT_MS,
  )

  test(
    'of one pod at a time loses nothing, with the mirror alone behind a front that waits',
    async () => {
      await using world = await RollingWorld.create(1)
      const chandlery = await world.pod('one')
      await world.startWarm(chandlery)
      await using front = await ServiceFront.listen({ waitMs: WAIT_MS })
      front.backends = [chandlery]
      const load = new Load(world, [front.url])
      for (let i = 0; i < RESTARTS; i++) {
        await sleep(world.random() * 700)
        await restart(chandlery)
      }
      await load.end()
      const unreadyMs = Math.round(front.longestGapMs)
      expectNothingLost('a pod at a time, alone behind a front', world, load, {
        againBytes: IN_FLIGHT,
        more: { unreadyMs },
      })
      expect(load.elsewhere).toBe(0)
    },
    LIMIT_MS,
  )

  test.each([
    ['the registry itself as the second host of a Service that refuses', 0],
    ['the mirror alone behind a front that waits', WAIT_MS],
  ])(
    'of two pods that overlap loses nothing, with %s',
    async (way, waitMs) => {
      await using world = await RollingWorld.create(2 + waitMs)
      let [current, next] = [await world.pod('one'), await world.pod('two')]
      await world.startWarm(current)
      await using front = await ServiceFront.listen({ waitMs })
      front.backends = [current, next]
      const load = new Load(world, [front.url, ...(waitMs > 0 ? [] : [world.upstream.url])])
      const gapsMs: number[] = []
      for (let i = 0; i < RESTARTS; i++) {
        const daemon = await next.launch()
        await daemon.until(() => answers(`${next.adminUrl}/readyz`, 503))
        await sleep(world.random() * 500)
        const sinceMs = Date.now()
        expect(await current.stop('SIGTERM')).toBe(0)
        await daemon.until(() => answers(`${next.adminUrl}/readyz`, 200))
        gapsMs.push(await gapBetween(current, next, sinceMs))
        ;[current, next] = [next, current]
      }
      await load.end()
      const unreadyMs = Math.round(front.longestGapMs)
      expectNothingLost(`two that overlap, ${way}`, world, load, {
        againBytes: IN_FLIGHT + PASSING,
        more: { unreadyMs, gapsMs },
      })
      expect(gapsMs.toSorted((a, b) => a - b)[RESTARTS >> 1]).toBeLessThan(2000)
    },
    LIMIT_MS,
  )
})
