// How a whole server ends: what it says meanwhile, what it leaves, and when the next one may begin.
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import { Chandlery } from './e2e/chandlery.ts'
import { answers } from './e2e/processes.ts'
import { filesBelow } from './support/cache-files.ts'
import {
  createChandlery,
  mirrorOf,
  type RunningChandlery,
  startChandlery,
} from './support/chandlery.ts'
import { hangFiles } from './support/failing-files.ts'
import { rawRequest } from './support/raw-client.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const MIB = 1024 * 1024
const REGISTRY = 'registry.test'
/** Of what a process does when it gets to it. */
const PATIENT = { timeout: 20_000 }
const QUICK = { shutdownTimeout: '1s' }
const LONG = { timeout: 60_000 }
/** More than the sockets between a server and a client that does not read can hold. */
const LARGE = 48 * MIB

let directory: TemporaryDirectory
let upstream: TestRegistry

beforeEach(async () => {
  directory = await temporaryDirectory()
  upstream = await startRegistry()
})

afterEach(async () => {
  await upstream.close()
  await directory.remove()
})

function start(config: Record<string, unknown> = {}): Promise<RunningChandlery> {
  return startChandlery(directory.path, { ...mirrorOf(REGISTRY, upstream.url), ...config })
}

function urlOf(server: { url: string }, digest: string): string {
  return `${server.url}/v2/team/app/blobs/${digest}?ns=${REGISTRY}`
}

async function pull(server: { url: string }, digest: string): Promise<string> {
  using response = await rawRequest(urlOf(server, digest))
  const { bytes, complete } = await response.body()
  expect({ complete, status: response.status }).toEqual({ complete: true, status: 200 })
  return digestOf(bytes)
}

/** Of what a partial file holds. */
function isNote(path: string): boolean {
  return /\/ingest\/.*\.json$/.test(path)
}

describe('a server that is told to end', () => {
  test('is unready at once and alive to the end, and takes requests for shutdownDelay', async () => {
    const { digest } = upstream.addSyntheticBlob(MIB, 'delay')
    await using server = await start({ shutdownDelay: '60s' })
    const delayed = new AbortController()
    const stopped = server.stop({ hurry: delayed.signal })
    expect(await answers(`${server.adminUrl}/readyz`, 503)).toBe(true)
    expect(await answers(`${server.adminUrl}/healthz`, 200)).toBe(true)
    expect(await pull(server, digest)).toBe(digest)
    using response = await rawRequest(urlOf(server, digest))
    expect(response.headers.get('connection')).toBe('close')
    const metrics = await (await fetch(`${server.adminUrl}/metrics`)).text()
    expect(metrics).toContain('chandlery_shutdown_phase{phase="delay"} 1')
    await response.body()
    delayed.abort()
    await stopped
    await expect(pull(server, digest)).rejects.toThrow()
    await expect(answers(`${server.adminUrl}/healthz`, 200)).rejects.toThrow()
  })

  test('counts and logs what it cuts', async () => {
    const { digest } = upstream.addSyntheticBlob(LARGE, 'cut')
    await using server = await start({ shutdownTimeout: '100ms' })
    await pull(server, digest)
    using response = await rawRequest(urlOf(server, digest))
    response.pause()
    await server.stop()
    const line = server.log.find(({ msg }) => String(msg).includes('were cut'))
    expect(line).toMatchObject({ level: 'warn', responses: 1, refused: 0 })
    expect(line?.missingBytes).toBeGreaterThan(MIB)
  })

  test('gives the directory to the next while held content is still being sent', async () => {
    const { digest } = upstream.addSyntheticBlob(LARGE, 'held')
    await using old = await start()
    await pull(old, digest)
    using response = await rawRequest(urlOf(old, digest))
    response.pause()
    const stopped = old.stop()
    const startedAt = performance.now()
    await using next = await start() // resolves when it has the directory
    expect(performance.now() - startedAt).toBeLessThan(10_000) // not shutdownTimeout
    await upstream.stop()
    expect(await pull(next, digest)).toBe(digest)
    const { bytes, complete } = await response.body()
    expect(complete).toBe(true)
    expect(digestOf(bytes)).toBe(digest)
    await stopped
  })

  test('gives it to one that waits while a blob still arrives, which fetches only the rest', async () => {
    const { digest } = upstream.addSyntheticBlob(LARGE, 'arriving')
    const fault = upstream.fault({ match: { kind: 'blob' }, stall: { afterBytes: 4 * MIB } })
    await using old = await start()
    using response = await rawRequest(urlOf(old, digest))
    await response.read(3 * MIB)
    const starting = start()
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
    const metrics = await (await fetch(`${next.adminUrl}/metrics`)).text()
    const fetched = Number(/^chandlery_upstream_bytes_total\{.*\} (.*)$/m.exec(metrics)?.[1])
    expect(fetched).toBeGreaterThan(0)
    expect(fetched).toBeLessThan(LARGE - 3 * MIB)
  })

  test('writes nothing more once another has the directory', async () => {
    const cache = join(directory.path, 'cache')
    const { digest } = upstream.addSyntheticBlob(LARGE, 'lost')
    const drip = { bytes: 64 * 1024, everyMs: 20 }
    upstream.fault({ match: { kind: 'blob', method: 'GET' }, drip })
    await using old = await start({ fetch: { connections: 1, maxConnections: 1 } })
    using response = await rawRequest(urlOf(old, digest))
    await response.read(MIB)
    const stopped = old.stop()
    const noted = async () => (await filesBelow(cache)).filter(isNote)
    await expect.poll(noted, PATIENT).toHaveLength(1)
    await rm(join(cache, 'owner'), { recursive: true })
    await mkdir(join(cache, 'owner')) // or it would be claimed anew
    await using next = await start()
    const partial = async () => {
      const path = (await filesBelow(cache)).find((each) => each.endsWith('.part'))
      const { size, mtimeMs } = await stat(path ?? '')
      return `${size} ${mtimeMs}`
    }
    let before = ''
    const isSame = async () => before === (before = await partial())
    await expect.poll(isSame, { ...PATIENT, interval: 300 }).toBe(true)
    expect(await response.read(20 * MIB)).toHaveLength(20 * MIB) // it comes all the same
    expect(await partial()).toBe(before)
    response.leave()
    await stopped
    expect(await answers(`${next.adminUrl}/readyz`, 200)).toBe(true)
  })

  test('ends in time though the disk hangs: while it starts, downloads, or gives back', async () => {
    const { digest } = upstream.addSyntheticBlob(LARGE, 'hangs')
    upstream.fault({ match: { kind: 'blob' }, stall: { afterBytes: 4 * MIB } })
    const one = (name: string) =>
      createChandlery(directory.join(name), { ...mirrorOf(REGISTRY, upstream.url), ...QUICK })
    const [starting, downloading, idle] = await Promise.all(['a', 'b', 'c'].map(one))
    await Promise.all([downloading!.server.start(), idle!.server.start()])
    const url = `http://127.0.0.1:${downloading!.server.ports.api}`
    using response = await rawRequest(urlOf({ url }, digest))
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

  test(
    'killed meanwhile, has left what downloads had: only the rest is fetched',
    LONG,
    async () => {
      const { digest } = upstream.addSyntheticBlob(LARGE, 'killed')
      upstream.fault({ match: { kind: 'blob', method: 'GET' }, drip: { bytes: MIB, everyMs: 25 } })
      const config = { ...mirrorOf(REGISTRY, upstream.url), shutdownTimeout: '60s' }
      await using server = await Chandlery.create({ directory: directory.path, config })
      await server.start()
      using response = await rawRequest(urlOf(server, digest))
      await response.read(LARGE / 2)
      const ended = server.stop('SIGTERM')
      const noted = async () => (await filesBelow(server.cache)).filter(isNote)
      await expect.poll(noted, PATIENT).toHaveLength(1)
      process.kill(server.pid, 'SIGKILL')
      await ended
      await server.start()
      const before = upstream.bytesSent(digest)
      upstream.clearFaults()
      expect(await pull(server, digest)).toBe(digest)
      expect(upstream.bytesSent(digest) - before).toBeLessThan(LARGE * 0.75)
    },
  )
})
