// The end of a server, seen by its clients: on sockets, at the moments that hurt.
import { once } from 'node:events'
import { Agent, get } from 'node:http'
import { connect, type Socket } from 'node:net'
import { connect as tlsConnect } from 'node:tls'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { Connections } from '../../src/server/connections.ts'
import { drain, type DrainOptions } from '../../src/server/drain.ts'
import type { ServedManifest } from '../../src/cache/manifest/served-manifest.ts'
import { TlsKeyPair } from '../../src/server/tls-key-pair.ts'
import { createAuthority } from '../support/certificates.ts'
import { FakeContent, patternBytes } from './fake-content.ts'
import { blobsOf, type RunningApp, startApp, type TestOptions } from './fixture.ts'
import { until } from '../support/until.ts'

const MIB = 1024 * 1024
const PATH = `/v2/library/alpine/blobs/sha256:${'a'.repeat(64)}`
const BYTES = Buffer.from('{"schemaVersion":2}')
const LATE: ServedManifest = {
  digest: digestOf(BYTES),
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  size: BYTES.length,
  bytes: BYTES,
  cache: { state: 'hit' },
}
const PING = 'GET /v2/ HTTP/1.1\r\nHost: here\r\n\r\n'

let app: RunningApp | undefined
let connections: Connections
const sockets: Socket[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await app?.stop()
  app = undefined
})

async function start(options: TestOptions = {}): Promise<RunningApp> {
  connections = new Connections()
  app = await startApp({ ...options, connections })
  return app
}

function end(options: Partial<DrainOptions> = {}) {
  return drain({ connections, delayMs: 0, timeoutMs: 10_000, ...options })
}

/** A connection, and all that has come over it so far. */
async function open(port: number) {
  const socket = connect(port, '127.0.0.1')
  sockets.push(socket)
  const got = { text: '', ended: false, error: undefined as string | undefined }
  socket.on('data', (chunk: Buffer) => (got.text += chunk.toString('latin1')))
  socket.on('end', () => (got.ended = true))
  socket.on('error', (error) => (got.error = error.message))
  await once(socket, 'connect')
  return { socket, got }
}

interface Opened {
  readonly status: number | undefined
  /** Reads on; resolves with the length of a complete body. */
  readonly body: () => Promise<number>
}

function openBlob(port: number, agent = new Agent()): Promise<Opened> {
  return new Promise((resolve, reject) => {
    get({ port, path: PATH, agent }, (res) => {
      const body = () =>
        new Promise<number>((done, fail) => {
          let length = 0
          res.on('data', (chunk: Buffer) => (length += chunk.length))
          res.on('end', () => done(length))
          res.on('error', fail)
        })
      resolve({ status: res.statusCode, body })
    }).on('error', reject)
  })
}

describe('draining', () => {
  it('lets running responses end, refuses new connections, and does not wait for idle ones', async () => {
    const content = new FakeContent(patternBytes(MIB), 1000)
    const { port } = await start({ blobs: blobsOf(() => content) })
    const idle = await open(port)
    idle.socket.write(PING)
    await until(() => idle.got.text.includes('200 OK'))
    const response = await openBlob(port)
    const drained = end()
    const body = response.body()
    await until(() => idle.got.ended)
    await expect(openBlob(port)).rejects.toThrow(/ECONNREFUSED/)
    content.arrive()
    expect(await body).toBe(MIB)
    expect(await drained).toEqual({ responses: 0, missingBytes: 0, refused: 0 })
  })

  it('cuts what still runs at the end, without a reset, and says how much was missing', async () => {
    const content = new FakeContent(patternBytes(MIB), 1000)
    const { port, records } = await start({ blobs: blobsOf(() => content) })
    const { socket, got } = await open(port)
    socket.write(`GET ${PATH} HTTP/1.1\r\nHost: here\r\n\r\n`)
    await until(() => got.text.length > 1000)
    expect(await end({ timeoutMs: 50 })).toEqual({
      responses: 1,
      missingBytes: MIB - 1000,
      refused: 0,
    })
    // containerd goes on after a body that ended too early, not after a reset.
    await until(() => got.ended)
    expect(got.error).toBeUndefined()
    await until(() => content.closed === 1)
    expect(records.at(-1)).toMatchObject({ aborted: true, bytes: 1000 })
  })

  it('answers 503 where no response has begun when time is up', async () => {
    const never = new Promise<never>(() => {})
    const { port, records, running } = await start({
      blobs: { open: () => never, head: () => never },
    })
    const { socket, got } = await open(port)
    socket.write(`GET ${PATH} HTTP/1.1\r\nHost: here\r\n\r\n`)
    await until(() => running() === 1)
    expect(await end({ timeoutMs: 50 })).toEqual({ responses: 0, missingBytes: 0, refused: 1 })
    await until(() => got.ended)
    expect(got.text).toMatch(/^HTTP\/1\.1 503 /)
    expect(got.text).toMatch(/retry-after: 5/i)
    expect(got.text).toMatch(/connection: close/i)
    expect(records.at(-1)).toMatchObject({ status: 503, aborted: false, failure: 'UNAVAILABLE' })
  })

  it('keeps its 503 on record when the answer turns up in the same moment', async () => {
    const { promise, resolve } = Promise.withResolvers<ServedManifest>()
    const { port, records, running } = await start({
      manifests: { get: () => promise, head: () => promise },
    })
    const { socket, got } = await open(port)
    socket.write('GET /v2/a/manifests/latest HTTP/1.1\r\nHost: here\r\n\r\n')
    await until(() => running() === 1)
    connections.cut()
    resolve(LATE)
    await until(() => running() === 0 && got.text !== '')
    expect(got.text).toMatch(/^HTTP\/1\.1 503 /)
    expect(records.at(-1)).toMatchObject({ status: 503, failure: 'UNAVAILABLE' })
  })

  it('begins the response whose first byte is awaited, and cuts that, so that a client can resume it', async () => {
    const content = new FakeContent(patternBytes(MIB), 0)
    const { port } = await start({ blobs: blobsOf(() => content) })
    const { socket, got } = await open(port)
    socket.write(`GET ${PATH} HTTP/1.1\r\nHost: here\r\n\r\n`)
    await until(() => content.waiters === 1)
    expect(await end({ timeoutMs: 50 })).toMatchObject({ responses: 1, missingBytes: MIB })
    await until(() => got.ended)
    expect(got.text).toMatch(/^HTTP\/1\.1 200 [^]*content-length: 1048576/i)
    expect(got.error).toBeUndefined()
  })

  it('accepts connections and requests during the delay, each response being the last', async () => {
    const { port } = await start()
    const kept = await open(port)
    kept.socket.write(PING)
    await until(() => kept.got.text.includes('200 OK'))
    expect(kept.got.text).not.toMatch(/connection: close/i)
    const drained = end({ delayMs: 400 })
    await sleep(100)
    expect(kept.got.ended).toBe(false)
    const late = await open(port)
    for (const { socket } of [kept, late]) socket.write(PING)
    for (const { got } of [kept, late]) {
      await until(() => got.ended)
      expect(got.text.match(/connection: close/gi)).toHaveLength(1)
    }
    await drained
    await expect(openBlob(port)).rejects.toThrow(/ECONNREFUSED/)
  })

  it('sends Connection: close in a response whose request came before and whose head is written after', async () => {
    const content = new FakeContent(patternBytes(1000))
    const opened = Promise.withResolvers<void>()
    const held = blobsOf(() => content)
    const { port, running } = await start({
      blobs: { ...held, open: (...args) => opened.promise.then(() => held.open(...args)) },
    })
    const { socket, got } = await open(port)
    socket.write(`GET ${PATH} HTTP/1.1\r\nHost: here\r\n\r\n`)
    await until(() => running() === 1)
    const drained = end()
    opened.resolve()
    await until(() => got.ended)
    expect(got.text).toMatch(/connection: close/i)
    expect(await drained).toMatchObject({ responses: 0 })
  })

  it('answers a request that comes on a kept connection just before it would be closed', async () => {
    const { port } = await start()
    const clients = await Promise.all(Array.from({ length: 20 }, () => open(port)))
    for (const { socket } of clients) socket.write(PING)
    for (const { got } of clients) await until(() => got.text.includes('200 OK'))
    const drained = end()
    // What is on its way when the signal comes.
    for (const { socket } of clients) socket.write(PING)
    await drained
    for (const { got } of clients) {
      await until(() => got.ended)
      expect(got.error).toBeUndefined()
      expect(got.text.match(/200 OK/g)).toHaveLength(2)
    }
  })

  it('answers clients that connected before their connections were accepted', async () => {
    const { port } = await start()
    const clients = Promise.all(Array.from({ length: 20 }, () => open(port)))
    // Each has begun to connect, and the system has done its part: our side has not looked yet.
    await new Promise((resolve) => process.nextTick(resolve))
    const drained = end()
    for (const { socket } of await clients) socket.write(PING)
    for (const { got } of await clients) {
      await until(() => got.ended || got.error !== undefined)
      expect(got).toMatchObject({ error: undefined, text: expect.stringContaining('200 OK') })
    }
    await drained
  })

  it('waits a while for the first request of a new connection, and for the rest of half a request', async () => {
    const { port } = await start()
    const kept = await open(port)
    kept.socket.write(PING)
    await until(() => kept.got.text.includes('200 OK'))
    kept.socket.write(PING.slice(0, 10))
    const fresh = await open(port)
    const drained = end()
    await sleep(300)
    fresh.socket.write(PING)
    kept.socket.write(PING.slice(10))
    for (const { got } of [kept, fresh]) await until(() => got.ended)
    expect(fresh.got.text).toContain('200 OK')
    expect(kept.got.text.match(/200 OK/g)).toHaveLength(2)
    await drained
  })

  it('waits a while for a handshake, and answers the request after it', async () => {
    await using authority = await createAuthority()
    const { port } = await start({ tls: new TlsKeyPair(await authority.server('127.0.0.1')) })
    const { socket } = await open(port)
    socket.removeAllListeners('data')
    const drained = end()
    await sleep(300)
    const secure = tlsConnect({ socket, host: '127.0.0.1', ca: authority.ca.cert })
    let text = ''
    secure.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')))
    await once(secure, 'secureConnect')
    secure.write(PING)
    await until(() => text.includes('200 OK'))
    await drained
  })

  it('accepts no more requests when all is settled, and ends connections that promised to accept some', async () => {
    const content = new FakeContent(patternBytes(MIB), 1000)
    const { port } = await start({ blobs: blobsOf(() => content) })
    const { socket, got } = await open(port)
    socket.write(`GET ${PATH} HTTP/1.1\r\nHost: here\r\n\r\n`)
    await until(() => got.text.length > 1000)
    let isClosed = false
    const closeOnceSettled = () => {
      if (!connections.isSettled) return
      connections.closeRequests()
      isClosed = true
    }
    const drained = end({ meanwhile: closeOnceSettled })
    await until(() => isClosed)
    socket.write(PING)
    content.arrive()
    await until(() => got.ended)
    expect(got.error).toBeUndefined()
    expect(got.text).not.toMatch(/connection: close/i)
    expect(got.text.match(/HTTP\/1\.1 /g)).toHaveLength(1)
    expect(got.text.length).toBeGreaterThan(MIB)
    await drained
  })

  it('loses no response to a reset where the client goes on sending', async () => {
    const { port } = await start()
    const { socket, got } = await open(port)
    const drained = end({ delayMs: 200 })
    // A push that reads nothing while it sends: the answer is there before all of it is.
    socket.pause()
    socket.write(
      `POST /v2/x/blobs/uploads/ HTTP/1.1\r\nHost: here\r\nContent-Length: ${MIB}\r\n\r\n`,
    )
    for (let sent = 0; sent < 20; sent++) {
      socket.write(Buffer.alloc(10_000))
      await sleep(10)
    }
    socket.resume()
    await until(() => got.ended || got.error !== undefined)
    expect(got.error).toBeUndefined()
    expect(got.text).toMatch(/ 405 [^]*UNSUPPORTED/)
    await drained
  })

  it('does not wait for connections that never sent a request', async () => {
    const { port } = await start()
    await open(port)
    const half = await open(port)
    half.socket.write('GET /v2/ HTTP/1.1\r\n')
    const startedAt = performance.now()
    await end()
    await connections.closed()
    expect(performance.now() - startedAt).toBeLessThan(2000)
  })

  it('does not wait for handshakes that never end', async () => {
    await using authority = await createAuthority()
    const { port } = await start({ tls: new TlsKeyPair(await authority.server('127.0.0.1')) })
    await open(port)
    const startedAt = performance.now()
    await end()
    await connections.closed()
    expect(performance.now() - startedAt).toBeLessThan(2000)
  })

  it('ends at once when hurried, also during the delay', async () => {
    const content = new FakeContent(patternBytes(MIB), 1000)
    const { port } = await start({ blobs: blobsOf(() => content) })
    const response = await openBlob(port)
    const body = expect(response.body()).rejects.toThrow()
    const hurry = new AbortController()
    const drained = end({ delayMs: 60_000, timeoutMs: 60_000, hurry: hurry.signal })
    hurry.abort()
    expect(await drained).toMatchObject({ responses: 1 })
    await body
  })
})
