import { get, request, Agent, type IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { OciError } from '../../src/oci/errors.ts'
import { PiecePool } from '../../src/server/piece-pool.ts'
import { FakeContent, patternBytes } from './fake-content.ts'
import { blobsOf, type RunningApp, startApp } from './fixture.ts'
import { until } from '../support/until.ts'

const MIB = 1024 * 1024
const DIGEST = `sha256:${'a'.repeat(64)}`
const PATH = `/v2/library/alpine/blobs/${DIGEST}`

let running: RunningApp | undefined
afterEach(() => running?.stop())

async function serving(open: () => FakeContent, options: Parameters<typeof startApp>[0] = {}) {
  running = await startApp({ blobs: blobsOf(open), ...options })
  return running
}

interface Answer {
  readonly status: number | undefined
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
  /** The response was complete. */
  readonly complete: boolean
}

function fetchRaw(app: RunningApp, options: { headers?: object; agent?: Agent } = {}) {
  return new Promise<Answer>((resolve, reject) => {
    const sent = get(`${app.url}${PATH}`, { agent: false, ...options } as object, (res) => {
      const chunks: Buffer[] = []
      res.on('data', (chunk: Buffer) => chunks.push(chunk))
      res.on('error', () => {})
      res.on('close', () =>
        resolve({
          status: res.statusCode,
          headers: res.headers,
          body: Buffer.concat(chunks),
          complete: res.complete,
        }),
      )
    })
    sent.on('error', reject)
  })
}

/** A client that asks for the blob and then reads nothing until it is told to. */
async function slowReader(app: RunningApp): Promise<Socket> {
  const socket = connect({ port: app.port, host: '127.0.0.1' })
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('connect', resolve))
  socket.pause()
  socket.write(`GET ${PATH} HTTP/1.1\r\nHost: cache\r\n\r\n`)
  return socket
}

describe('a held blob', () => {
  it('is sent whole, with its exact length, over one connection again and again', async () => {
    const bytes = patternBytes(3 * MIB + 5)
    const contents: FakeContent[] = []
    const app = await serving(() => {
      const content = new FakeContent(bytes)
      contents.push(content)
      return content
    })
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    for (let round = 0; round < 3; round++) {
      const answer = await fetchRaw(app, { agent })
      expect(answer.complete).toBe(true)
      expect(answer.headers['content-length']).toBe(String(bytes.length))
      expect(answer.body.equals(bytes)).toBe(true)
    }
    agent.destroy()
    await until(() => app.records.length === 3 && contents.every((each) => each.closed > 0))
    expect(contents.map((each) => each.closed)).toEqual([1, 1, 1])
    expect(app.records.map((each) => [each.status, each.bytes, each.aborted])).toEqual(
      Array.from({ length: 3 }, () => [200, bytes.length, false]),
    )
  })

  it('is read in pieces that grow while the client keeps up', async () => {
    const pool = new PiecePool()
    const content = new FakeContent(patternBytes(2 * MIB))
    const app = await serving(() => content, { pool })
    await fetchRaw(app)
    expect(content.reads).toBeLessThan(32)
    expect(pool.usage.peak).toBeGreaterThan(64 * 1024)
    await until(() => pool.usage.inUse === 0)
  })

  it('leaves no buffer on loan when the client leaves half-way', async () => {
    const pool = new PiecePool()
    const content = new FakeContent(patternBytes(64 * MIB))
    const app = await serving(() => content, { pool })
    const socket = await slowReader(app)
    await until(() => pool.usage.inUse > 0)
    socket.destroy()
    await until(() => content.closed === 1)
    expect(pool.usage.inUse).toBe(0)
    await until(() => app.records.length === 1)
    expect(app.records[0]).toMatchObject({ aborted: true, failure: undefined })
  })

  it('of no bytes has a length of 0', async () => {
    const app = await serving(() => new FakeContent(Buffer.alloc(0)))
    const answer = await fetchRaw(app)
    expect(answer).toMatchObject({ status: 200, complete: true })
    expect(answer.headers['content-length']).toBe('0')
  })
})

describe('a blob that is still arriving', () => {
  it('is sent as it arrives, and takes no piece while it waits', async () => {
    const pool = new PiecePool()
    const bytes = patternBytes(MIB)
    const content = new FakeContent(bytes, 1000)
    const app = await serving(() => content, { pool })
    const answer = fetchRaw(app)
    await until(() => content.waiters === 1)
    expect(pool.usage.inUse).toBe(0)
    for (const upTo of [1001, 70_000, 500_000]) {
      content.arrive(upTo)
      await sleep(5)
    }
    content.arrive()
    expect((await answer).body.equals(bytes)).toBe(true)
  })

  it('of unknown size is sent in chunks, without a length and without ranges', async () => {
    const bytes = patternBytes(300_000)
    const content = FakeContent.ofUnknownSize(bytes, 10)
    const app = await serving(() => content)
    const answer = fetchRaw(app, { headers: { range: 'bytes=5-9' } })
    await until(() => content.waiters === 1)
    content.arrive()
    const { status, headers, body, complete } = await answer
    expect({ status, complete, range: headers['accept-ranges'] }).toEqual({
      status: 200,
      complete: true,
      range: undefined,
    })
    expect(headers['content-length']).toBeUndefined()
    expect(body.equals(bytes)).toBe(true)
    expect(content.planned).toBeUndefined()
  })

  it.each([
    ['of known size', () => new FakeContent(patternBytes(MIB), 200_000)],
    ['of unknown size', () => FakeContent.ofUnknownSize(patternBytes(MIB), 200_000)],
  ])('%s is cut, never ended cleanly, when the upstream fails', async (_size, make) => {
    const content = make()
    const app = await serving(() => content)
    const answer = fetchRaw(app)
    await until(() => content.waiters === 1)
    content.fail(Object.assign(new Error('the upstream cut the body'), { reason: 'cut' }))
    const { status, body, complete } = await answer
    expect({ status, complete, length: body.length }).toEqual({
      status: 200,
      complete: false,
      length: 200_000,
    })
    await until(() => app.records.length === 1 && content.closed === 1)
    expect(app.records[0]).toMatchObject({ aborted: true, failure: 'cut', bytes: 200_000 })
  })

  it('answers with an OCI error when it fails before the first byte', async () => {
    const content = new FakeContent(patternBytes(1000), 0)
    const app = await serving(() => content)
    const answer = fetchRaw(app)
    await until(() => content.waiters === 1)
    content.fail(new OciError('UNAVAILABLE', 'the upstream gave a wrong digest', { status: 502 }))
    const { status, body } = await answer
    expect(status).toBe(502)
    expect(JSON.parse(body.toString())).toEqual({
      errors: [{ code: 'UNAVAILABLE', message: 'the upstream gave a wrong digest' }],
    })
    await until(() => content.closed === 1)
  })

  it('is closed when the client leaves while nothing arrives', async () => {
    const content = new FakeContent(patternBytes(1000), 0)
    const app = await serving(() => content)
    const sent = request(`${app.url}${PATH}`, { agent: false })
    sent.on('error', () => {})
    sent.end()
    await until(() => content.waiters === 1)
    sent.destroy()
    await until(() => content.closed === 1 && app.records.length === 1)
    expect(app.records[0]).toMatchObject({ status: 499, aborted: true })
  })
})

describe('content that breaks its promise', () => {
  it('is cut where it reads nothing before its end', async () => {
    const content = new FakeContent(patternBytes(MIB))
    content.read = async (into, at) =>
      at >= 64 * 1024 ? 0 : content.bytes.copy(into, 0, at, at + into.length)
    const app = await serving(() => content)
    const answer = await fetchRaw(app)
    expect(answer).toMatchObject({ status: 200, complete: false })
    await until(() => app.records.length === 1)
    expect(app.faults.map((each) => each.operation)).toEqual(['answer a request'])
  })

  it('is cut where waiting for it never helps', async () => {
    const content = new FakeContent(patternBytes(MIB), 1000)
    content.wait = async () => {}
    const app = await serving(() => content)
    expect(await fetchRaw(app)).toMatchObject({ status: 200, complete: false })
  })

  it('is waited for again where what had arrived was taken back', async () => {
    const bytes = patternBytes(1000)
    const content = new FakeContent(bytes)
    const read = content.read.bind(content)
    content.read = async (into, at) => {
      content.read = read
      content.arrived = 0
      setTimeout(() => content.arrive(), 20)
      return read(into, at)
    }
    const app = await serving(() => content)
    expect((await fetchRaw(app)).body.equals(bytes)).toBe(true)
  })
})

function noted(contents: FakeContent[], content: FakeContent): FakeContent {
  contents.push(content)
  return content
}

/** Waits until nothing is read any more: all that is between server and clients is full. */
async function untilStuck(contents: readonly FakeContent[]): Promise<void> {
  const reads = () => contents.reduce((sum, content) => sum + content.reads, 0)
  let before = 0
  await until(() => before === (before = reads()), 'no reader goes on', { everyMs: 100 })
}

describe('a crowd of slow readers', () => {
  it('does not keep fast ones waiting, nor takes more than the pool has', async () => {
    const small = patternBytes(24 * MIB)
    const pool = new PiecePool({
      baseBytes: 8 * MIB,
      leanBytes: 6 * MIB,
      reserveBytes: MIB,
      growthBytes: 4 * MIB,
      idleBytes: MIB,
    })
    const contents: FakeContent[] = []
    const app = await serving(() => noted(contents, new FakeContent(small)), { pool })
    const crowd = await Promise.all(Array.from({ length: 300 }, () => slowReader(app)))
    await until(() => app.running() === 300)
    await untilStuck(contents)
    const startedAt = performance.now()
    const fast = await Promise.all(Array.from({ length: 4 }, () => fetchRaw(app)))
    expect(fast.every((each) => each.body.equals(small))).toBe(true)
    expect(performance.now() - startedAt).toBeLessThan(10_000)
    expect(pool.usage.peak).toBeLessThanOrEqual(18 * MIB)
    await until(() => app.records.filter((each) => !each.aborted).length === 4)
    for (const socket of crowd) socket.destroy()
    await until(() => pool.usage.inUse === 0 && app.running() === 0)
    expect(pool.usage.waiting).toBe(0)
  })

  it('gets every byte once it reads on', async () => {
    const bytes = patternBytes(8 * MIB)
    const pool = new PiecePool({ baseBytes: MIB, leanBytes: MIB / 2, reserveBytes: MIB / 4 })
    const contents: FakeContent[] = []
    const app = await serving(() => noted(contents, new FakeContent(bytes)), { pool })
    const crowd = await Promise.all(Array.from({ length: 40 }, () => slowReader(app)))
    await until(() => app.running() === 40)
    await untilStuck(contents)
    const lengths = crowd.map(
      (socket) =>
        new Promise<number>((resolve) => {
          let length = 0
          socket.on('data', (chunk) => {
            length += chunk.length
            if (length > bytes.length) resolve(length)
          })
        }),
    )
    for (const socket of crowd) socket.resume()
    for (const length of await Promise.all(lengths)) expect(length).toBeGreaterThan(bytes.length)
    await until(() => app.records.length === 40)
    expect(app.records.every((each) => each.bytes === bytes.length && !each.aborted)).toBe(true)
    for (const socket of crowd) socket.destroy()
  })
})

describe('a reader that takes nothing', () => {
  it('is dropped after the stall timeout', async () => {
    const content = new FakeContent(patternBytes(64 * MIB))
    const app = await serving(() => content, { clientStallTimeoutMs: 200 })
    const socket = await slowReader(app)
    await until(() => content.closed === 1, 'the drop')
    await until(() => app.records.length === 1)
    expect(app.records[0]?.aborted).toBe(true)
    socket.destroy()
  })

  it('is not blamed for an upstream that sends nothing', async () => {
    const bytes = patternBytes(200_000)
    const content = new FakeContent(bytes, 100_000)
    const app = await serving(() => content, { clientStallTimeoutMs: 100 })
    const answer = fetchRaw(app)
    await sleep(400)
    content.arrive()
    expect((await answer).body.equals(bytes)).toBe(true)
  })
})
