// How a whole server ends: what it says meanwhile, what it leaves, and when the next one may begin.
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import { Chandlery } from './e2e/chandlery.ts'
import { answers } from './e2e/processes.ts'
import { filesBelow } from './support/cache-files.ts'
import { createChandlery, type RunningChandlery } from './support/chandlery.ts'
import { TestClient } from './support/client.ts'
import { hangFiles } from './support/failing-files.ts'
import type { RawResponse } from './support/raw-client.ts'
import { until } from './support/until.ts'
import { createWorld, type World, type Written } from './support/world.ts'

const MIB = 1024 * 1024
const QUICK = { shutdownTimeout: '1s' }
/** More than the sockets between a server and a client that does not read can hold. */
const LARGE = 48 * MIB

/** Where a server is: one of several on the same directory. */
type Server = Pick<RunningChandlery, 'url' | 'adminUrl'>

function createStoppedWorld(config: Written = {}): Promise<World> {
  return createWorld({ started: false, config })
}

function open(server: Server, digest: string): Promise<RawResponse> {
  return new TestClient(server).openBlob(digest)
}

/** Pulls the whole blob, and gives the digest of what came. */
async function pull(server: Server, digest: string): Promise<string> {
  using response = await open(server, digest)
  const { bytes, complete } = await response.body()
  expect({ complete, status: response.status }).toEqual({ complete: true, status: 200 })
  return digestOf(bytes)
}

/** Of what a partial file holds. */
function isNote(path: string): boolean {
  return /\/ingest\/.*\.json$/.test(path)
}

describe('a server that is told to end', () => {
  test('is unready at once and alive to the end, and accepts requests for shutdownDelay', async () => {
    await using world = await createWorld({ config: { shutdownDelay: '60s' } })
    const { server } = world
    const { digest } = world.upstream.addSyntheticBlob(MIB, 'delay')
    const delayed = new AbortController()
    using hurry = { [Symbol.dispose]: () => delayed.abort() }
    const stopped = server.stop({ hurry: delayed.signal })
    expect(await answers(`${server.adminUrl}/readyz`, 503)).toBe(true)
    expect(await answers(`${server.adminUrl}/healthz`, 200)).toBe(true)
    expect(await pull(server, digest)).toBe(digest)
    using response = await open(server, digest)
    expect(response.headers.get('connection')).toBe('close')
    expect(await world.client.metric('chandlery_shutdown_phase{phase="delay"}')).toBe(1)
    await response.body()
    hurry[Symbol.dispose]()
    await stopped
    await expect(pull(server, digest)).rejects.toThrow()
    await expect(answers(`${server.adminUrl}/healthz`, 200)).rejects.toThrow()
  })
})

describe.concurrent('a server that ends while it has work', () => {
  test('counts and logs what it cuts', async () => {
    await using world = await createWorld({ config: { shutdownTimeout: '100ms' } })
    const { server } = world
    const { digest } = world.upstream.addSyntheticBlob(LARGE, 'cut')
    await pull(server, digest)
    using response = await open(server, digest)
    response.pause()
    await server.stop()
    const line = server.log.find(({ msg }) => String(msg).includes('were cut'))
    expect(line).toMatchObject({ level: 'warn', responses: 1, refused: 0 })
    expect(line?.missingBytes).toBeGreaterThan(MIB)
  })

  test('gives the directory to the next while held content is still being sent', async () => {
    await using world = await createWorld()
    const { server: old, upstream } = world
    const { digest } = upstream.addSyntheticBlob(LARGE, 'held')
    await pull(old, digest)
    using response = await open(old, digest)
    response.pause()
    const stopped = old.stop()
    const startedAt = performance.now()
    await using next = await world.start() // resolves when it has the directory
    expect(performance.now() - startedAt).toBeLessThan(10_000) // not shutdownTimeout
    await upstream.stop()
    expect(await pull(next, digest)).toBe(digest)
    const { bytes, complete } = await response.body()
    expect(complete).toBe(true)
    expect(digestOf(bytes)).toBe(digest)
    await stopped
  })

  test('gives the directory to a server that waits while a blob still arrives, and that server fetches only the rest', async () => {
    await using world = await createWorld()
    const { server: old, upstream } = world
    const { digest } = upstream.addSyntheticBlob(LARGE, 'arriving')
    const fault = upstream.fault({ match: { kind: 'blob' }, stall: { afterBytes: 4 * MIB } })
    using response = await open(old, digest)
    await response.read(3 * MIB)
    const starting = world.start()
    let isServed = false
    const stopped = old.stop().then(() => (isServed = true))
    await using next = await starting
    expect(isServed).toBe(false)
    upstream.clearFaults()
    fault.release()
    expect(await pull(next, digest)).toBe(digest)
    expect((await response.body()).complete).toBe(true)
    await stopped
    expect(old.log.filter(({ level }) => level !== 'info')).toEqual([])
    const { text: metrics } = await world.client.admin('/metrics')
    const fetched = Number(/^chandlery_upstream_bytes_total\{.*\} (.*)$/m.exec(metrics)?.[1])
    expect(fetched).toBeGreaterThan(0)
    expect(fetched).toBeLessThan(LARGE - 3 * MIB)
  })

  test('writes nothing more once another server has the directory', async () => {
    await using world = await createWorld({
      config: { fetch: { connections: 1, maxConnections: 1 } },
    })
    const { server: old, upstream } = world
    const cache = world.cache()
    const { digest } = upstream.addSyntheticBlob(LARGE, 'lost')
    const drip = { bytes: 64 * 1024, everyMs: 20 }
    upstream.fault({ match: { kind: 'blob', method: 'GET' }, drip })
    using response = await open(old, digest)
    await response.read(MIB)
    const stopped = old.stop()
    const noted = async () => (await filesBelow(cache)).filter(isNote)
    await until(async () => (await noted()).length === 1)
    await rm(join(cache, 'owner'), { recursive: true })
    await mkdir(join(cache, 'owner')) // or it would be claimed anew
    await using next = await world.start()
    const partial = async () => {
      const path = (await filesBelow(cache)).find((each) => each.endsWith('.part'))
      const { size, mtimeMs } = await stat(path ?? '')
      return `${size} ${mtimeMs}`
    }
    let before = ''
    const isSame = async () => before === (before = await partial())
    await until(isSame, 'nothing is written', { everyMs: 300 })
    // It comes all the same: more than what was sent until now.
    const further = upstream.bytesSent(digest) + MIB
    expect(await response.read(further)).toHaveLength(further)
    expect(await partial()).toBe(before)
    response.leave()
    await stopped
    expect(await answers(`${next.adminUrl}/readyz`, 200)).toBe(true)
  })

  test('and is killed meanwhile has left what its downloads had, so that only the rest is fetched', async () => {
    await using world = await createStoppedWorld({
      shutdownTimeout: '60s',
      fetch: { connections: 1, maxConnections: 1 },
    })
    const { upstream, directory, config } = world
    const { digest } = upstream.addSyntheticBlob(LARGE, 'killed')
    const match = { kind: 'blob', method: 'GET' } as const
    upstream.fault({ match, stall: { afterBytes: LARGE / 2 + 4 * MIB } })
    await using server = await Chandlery.create({ directory: directory.path, config })
    await server.start()
    using response = await open(server, digest)
    await response.read(LARGE / 2)
    const ended = server.stop('SIGTERM')
    const noted = async () => (await filesBelow(server.cache)).filter(isNote)
    await until(async () => (await noted()).length === 1)
    process.kill(server.pid, 'SIGKILL')
    await ended
    await server.start()
    const before = upstream.bytesSent(digest)
    upstream.clearFaults()
    expect(await pull(server, digest)).toBe(digest)
    expect(upstream.bytesSent(digest) - before).toBeLessThan(LARGE * 0.75)
  })
})

// Alone: the disk hangs for the whole process.
describe('a server that is told to end while the disk hangs', () => {
  test('ends in time while it starts, downloads, or gives its directory back', async () => {
    await using world = await createStoppedWorld(QUICK)
    const { upstream, directory } = world
    const { digest } = upstream.addSyntheticBlob(LARGE, 'hangs')
    upstream.fault({ match: { kind: 'blob' }, stall: { afterBytes: 4 * MIB } })
    const one = (name: string) => createChandlery(directory.join(name), world.config)
    const [starting, downloading, idle] = await Promise.all(['a', 'b', 'c'].map(one))
    await Promise.all([downloading!.server.start(), idle!.server.start()])
    const url = `http://127.0.0.1:${downloading!.server.ports.api}`
    using response = await open({ url, adminUrl: url }, digest)
    await response.read(MIB)
    const hanging = await hangFiles('datasync', 'mkdir', 'rm')
    const started = starting!.server.start().catch(() => undefined)
    const startedAt = performance.now()
    await Promise.all([starting, downloading, idle].map((each) => each!.server.stop()))
    const tookMs = performance.now() - startedAt
    hanging[Symbol.dispose]()
    await started
    expect(tookMs).toBeLessThan(10_000)
    expect(JSON.stringify(starting!.log)).toContain('the start took longer than 3000 ms')
    for (const { log } of [downloading!, idle!])
      expect(JSON.stringify(log)).toContain('the disk took longer than 3000 ms')
  })
})
