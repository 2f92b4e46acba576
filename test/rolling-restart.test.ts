// Rolling restarts of the real process under constant pulls by containerd's logic: nothing that a node
// asks for may fail, whatever way it comes to the mirror, and nothing is fetched twice without need.
// ROLLING_RESTARTS: so many for each way (default 5); ROLLING_SEED: as printed by a run.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Chandlery } from './e2e/chandlery.ts'
import { answers } from './e2e/processes.ts'
import { mirrorOf } from './support/chandlery.ts'
import { ContainerdClient, type ContainerdOptions } from './support/containerd-client.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { ServiceFront } from './support/service-front.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const MIB = 1024 * 1024
const REGISTRY = 'registry.test'
const REPOSITORY = 'team/app'
const RESTARTS = Number(process.env.ROLLING_RESTARTS ?? 5)
const SEED = Number(process.env.ROLLING_SEED ?? Math.floor(Math.random() * 2 ** 31))
/** A download of the largest takes longer than the server has to end. */
const DRIP = { bytes: 256 * 1024, everyMs: 15 }
const SIZES = [100_000, MIB, 5 * MIB, 20 * MIB]
const SLOW_BYTES_PER_SECOND = 2 * MIB
const TIMES = { shutdownDelay: '300ms', shutdownTimeout: '700ms' }
/** Of a request that is cut, so much may be on its way. */
const IN_FLIGHT_BYTES = 6 * MIB

let directory: TemporaryDirectory
let upstream: TestRegistry
let chandleries: Chandlery[]

beforeEach(async () => {
  directory = await temporaryDirectory()
  upstream = await startRegistry()
  upstream.fault({ match: { kind: 'blob', method: 'GET' }, drip: DRIP })
  chandleries = []
})

afterEach(async () => {
  await Promise.all(chandleries.map((each) => each.stop('SIGKILL')))
  await upstream.close()
  await directory.remove()
})

/** Servers that share one cache directory. */
async function create(name: string): Promise<Chandlery> {
  const chandlery = await Chandlery.create({
    directory: directory.join(name),
    cache: directory.join('cache'),
    config: { ...mirrorOf(REGISTRY, upstream.url), ...TIMES },
  })
  chandleries.push(chandlery)
  return chandlery
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

function addImage(tag: string, sizes: readonly number[]): void {
  const layers = sizes.map((size, index) => {
    const descriptor = upstream.addSyntheticBlob(size, `${SEED} ${tag} ${index}`)
    const content = upstream.content.blob(REPOSITORY, descriptor.digest)
    if (!content) throw new Error('the test registry lost its blob')
    return { descriptor, content }
  })
  upstream.addImage(REPOSITORY, tag, { layers })
}

/** Pulls one after the other until it is told to end. */
class Load {
  readonly failures: string[] = []
  pulls = 0
  resumed = 0
  elsewhere = 0
  #ending = false
  #cold = 0
  readonly #workers: Promise<void>[]

  constructor(hosts: readonly string[]) {
    const fast = { hosts, registry: REGISTRY }
    const slow = { ...fast, bytesPerSecond: SLOW_BYTES_PER_SECOND }
    const held = () => 'held'
    const cold = () => this.#coldTag()
    this.#workers = [
      this.#work(fast, held),
      this.#work(slow, held),
      this.#work(fast, cold),
      this.#work(fast, cold),
      this.#work(slow, cold),
    ]
  }

  async end(): Promise<void> {
    this.#ending = true
    await Promise.all(this.#workers)
  }

  // Two workers after each other want the same one: it is cold for the first, arriving for the second.
  #coldTag(): string {
    const number = this.#cold++ >> 1
    const tag = `cold-${number}`
    if (!upstream.content.repository(REPOSITORY).tags.has(tag)) {
      addImage(tag, [SIZES[number % SIZES.length]!, SIZES[(number + 1) % SIZES.length]!])
    }
    return tag
  }

  async #work(options: ContainerdOptions, tagOf: () => string): Promise<void> {
    using client = new ContainerdClient(options)
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

/** Bytes of every blob that somebody asked Chandlery's upstream for, once; and what was sent to Chandlery. */
function upstreamBytes(): { needed: number; sent: number } {
  const asked = new Map<string, number>()
  let sent = 0
  for (const { digest, kind, headers, bytes, method } of upstream.requests) {
    if (kind !== 'blob' || method !== 'GET' || !digest) continue
    if (String(headers['user-agent']).startsWith('containerd')) continue
    asked.set(digest, upstream.content.blob(REPOSITORY, digest)?.size ?? 0)
    sent += bytes
  }
  return { needed: [...asked.values()].reduce((sum, size) => sum + size, 0), sent }
}

async function warm(mirror: Chandlery): Promise<void> {
  addImage('held', [200_000, 3 * MIB])
  using client = new ContainerdClient({ hosts: [mirror.url], registry: REGISTRY })
  await client.pull(REPOSITORY, 'held')
}

function report(way: string, load: Load, more: object = {}): void {
  const { pulls, resumed, elsewhere, failures } = load
  const { needed, sent } = upstreamBytes()
  const figures = { seed: SEED, restarts: RESTARTS, pulls, failed: failures.length, resumed }
  const bytes = { needed, sent, again: `${((sent / needed - 1) * 100).toFixed(1)} %` }
  console.log(way, JSON.stringify({ ...figures, elsewhere, ...bytes, ...more }))
  expect(failures).toEqual([])
  expect(pulls).toBeGreaterThan(RESTARTS)
  expect(sent).toBeLessThan(needed * 1.1 + RESTARTS * IN_FLIGHT_BYTES)
}

/** The old one ends wholly, then the new one starts with its addresses: a StatefulSet's pod. */
async function restart(chandlery: Chandlery): Promise<void> {
  expect(await chandlery.stop('SIGTERM')).toBe(0)
  await chandlery.start()
}

describe('a rolling restart under constant pulls', () => {
  test('of a pod at a time, with the registry itself as the second host', async () => {
    const random = randomOf(SEED)
    const chandlery = await create('one')
    await chandlery.start()
    await warm(chandlery)
    const load = new Load([chandlery.url, upstream.url])
    for (let i = 0; i < RESTARTS; i++) {
      await sleep(random() * 700)
      await restart(chandlery)
    }
    await load.end()
    report('one pod, upstream behind it:', load)
  }, 120_000)

  test('of a pod at a time, with the mirror alone behind a front that waits', async () => {
    const random = randomOf(SEED + 1)
    const chandlery = await create('one')
    await chandlery.start()
    await warm(chandlery)
    await using front = await ServiceFront.listen({ waitMs: 20_000 })
    front.backends = [{ port: chandlery.port, adminUrl: chandlery.adminUrl }]
    const load = new Load([front.url])
    for (let i = 0; i < RESTARTS; i++) {
      await sleep(random() * 700)
      await restart(chandlery)
    }
    await load.end()
    report('one pod, front waits:', load, { gapMs: Math.round(front.longestGapMs) })
    expect(load.elsewhere).toBe(0)
  }, 120_000)

  test.each([
    ['the registry itself as the second host and a Service that refuses', 0],
    ['the mirror alone behind a front that waits', 20_000],
  ])('of two that overlap, with %s', async (_, waitMs) => {
    const random = randomOf(SEED + 2)
    let [current, next] = [await create('one'), await create('two')]
    await current.start()
    await warm(current)
    await using front = await ServiceFront.listen({ waitMs })
    front.backends = [current, next].map(({ port, adminUrl }) => ({ port, adminUrl }))
    const load = new Load([front.url, ...(waitMs > 0 ? [] : [upstream.url])])
    const gaps: number[] = []
    for (let i = 0; i < RESTARTS; i++) {
      const daemon = await next.launch()
      await daemon.until(() => answers(`${next.adminUrl}/readyz`, 503))
      await sleep(random() * 500)
      const ready = daemon.until(() => answers(`${next.adminUrl}/readyz`, 200))
      expect(await current.stop('SIGTERM')).toBe(0)
      const endedAt = performance.now()
      await ready
      gaps.push(Math.round(performance.now() - endedAt))
      ;[current, next] = [next, current]
    }
    await load.end()
    report('two that overlap:', load, { waitMs, gapMs: Math.round(front.longestGapMs), gaps })
  }, 120_000)
})
