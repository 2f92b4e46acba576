// Requests as odd clients send them: what they are answered, and that their connection goes on or
// ends as the answer says. What cannot be read at all is in refusals.test.ts.
import { afterEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import type { Router } from '../../src/server/routing.ts'
import { untilSized } from '../../src/server/known-size.ts'
import { FakeContent, patternBytes } from './fake-content.ts'
import { until } from '../support/until.ts'
import {
  blobsOf,
  plainRouter,
  type RunningApp,
  startApp,
  talkTo,
  type TestOptions,
} from './fixture.ts'

const MANIFEST = Buffer.from('{"schemaVersion":2}\n')
const served = {
  digest: digestOf(MANIFEST),
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  size: MANIFEST.length,
  bytes: MANIFEST,
  cache: { state: 'hit' },
} as const
const manifests = { get: async () => served, head: async () => served }
const PING = 'GET /v2/ HTTP/1.1\r\nHost: x\r\n'
const LAST = `${PING}Connection: close\r\n\r\n`

let app: RunningApp
afterEach(() => app.stop())

async function start(options: TestOptions = {}): Promise<void> {
  app = await startApp({ manifests, ...options })
}

function head(line: string, more = ''): string {
  return `${line} HTTP/1.1\r\nHost: x\r\n${more}\r\n`
}

function statusesIn(answer: string): string[] {
  return [...answer.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status = '']) => status)
}

function bodyOf(answer: string): Buffer {
  return Buffer.from(answer.slice(answer.indexOf('\r\n\r\n') + 4), 'latin1')
}

describe('CONNECT', () => {
  it('is answered with 405 and closed, and is logged', async () => {
    await start()
    const answer = await talkTo(
      app.port,
      'CONNECT registry.test:443 HTTP/1.1\r\nHost: registry.test:443\r\n\r\n',
    )
    expect(answer).toMatch(/^HTTP\/1.1 405 [^]*connection: close/i)
    expect(JSON.parse(bodyOf(answer).toString())).toMatchObject({
      errors: [{ code: 'UNSUPPORTED', message: expect.stringContaining('not an HTTP proxy') }],
    })
    await until(() => app.records.length === 1)
    expect(app.records).toMatchObject([{ method: 'CONNECT', status: 405, aborted: false }])
    expect(app.running()).toBe(0)
  })

  it('behind a good request is answered in its turn', async () => {
    await start()
    const connect = 'CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n'
    expect(statusesIn(await talkTo(app.port, `${PING}\r\n`, connect))).toEqual(['200', '405'])
  })

  it('behind a request without a response yet ends the connection', async () => {
    const content = new FakeContent(patternBytes(10), 0)
    await start({ blobs: blobsOf(() => content) })
    const get = `GET /v2/a/blobs/${content.digest} HTTP/1.1\r\nHost: x\r\n\r\n`
    const answer = await talkTo(app.port, get, 'CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n')
    expect(answer).toBe('')
    await until(() => app.running() === 0 && content.closed === 1)
  })
})

describe('a request to upgrade', () => {
  it.each(['h2c', 'websocket', 'TLS/1.0'])(
    'to %s is ignored, and HTTP/1.1 continues',
    async (to) => {
      await start()
      const wish = `${PING}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: ${to}\r\n\r\n`
      const answer = await talkTo(app.port, wish, LAST)
      expect(statusesIn(answer)).toEqual(['200', '200'])
      expect(answer).not.toMatch(/upgrade/i)
    },
  )
})

describe('Expect: 100-continue', () => {
  const expecting = 'Expect: 100-continue\r\n'

  it('on a push is answered with its final response, before a body is sent', async () => {
    await start()
    const path = '/v2/a/blobs/uploads/'
    const post = `POST ${path} HTTP/1.1\r\nHost: x\r\n${expecting}Content-Length: 9\r\n\r\n`
    const answer = await talkTo(app.port, post)
    expect(statusesIn(answer)).toEqual(['405'])
    expect(answer).toMatch(/\r\nconnection: close\r\n/i)
  })

  it('on a GET is answered at once', async () => {
    await start()
    const answer = await talkTo(app.port, `${PING}${expecting}\r\n`)
    expect(statusesIn(answer)).toEqual(['200'])
  })
})

describe('a body on a GET', () => {
  const get = 'GET /v2/a/manifests/latest HTTP/1.1\r\nHost: x\r\n'

  it.each([
    ['of some length', `${get}Content-Length: 5\r\n\r\nhello`],
    ['in chunks', `${get}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`],
    ['that looks like a request', `${get}Content-Length: ${LAST.length}\r\n\r\n${LAST}`],
  ])('%s is ignored, and the connection stays open', async (_what, request) => {
    await start()
    expect(statusesIn(await talkTo(app.port, request, LAST))).toEqual(['200', '200'])
  })
})

describe('pipelined requests', () => {
  it('are answered in their order, whatever they are', async () => {
    const blob = patternBytes(300_000)
    await start({ blobs: blobsOf(() => new FakeContent(blob)) })
    const path = `/v2/a/blobs/${digestOf(blob)}`
    const answer = await talkTo(
      app.port,
      [
        head(`GET ${path}`),
        head(`HEAD ${path}`),
        head('DELETE /v2/a/manifests/latest'),
        head(`GET ${path}`, 'Range: bytes=5-6\r\n'),
        head('GET /nothing'),
        LAST,
      ].join(''),
    )
    expect(answer.slice(0, 12)).toBe('HTTP/1.1 200')
    const first = bodyOf(answer)
    expect(first.subarray(0, blob.length).equals(blob)).toBe(true)
    const rest = first.subarray(blob.length).toString('latin1')
    expect(statusesIn(rest)).toEqual(['200', '405', '206', '404', '200'])
  })
})

describe('a target that names a host', () => {
  it('is read from that host, whatever the Host header says', async () => {
    const hosts: (string | undefined)[] = []
    const route: Router['route'] = (target, naming) => {
      hosts.push(naming.host)
      return plainRouter.route(target, naming)
    }
    await start({ registries: { route } })
    for (const target of ['http://target:5000/v2/', 'http://u:p@target/v2/', '/v2/']) {
      expect(
        statusesIn(await talkTo(app.port, head(`GET ${target}`, 'Connection: close\r\n'))),
      ).toEqual(['200'])
    }
    expect(hosts).toEqual(['target:5000', 'target', 'x'])
  })
})

it('a range outside a size that only a manifest claims is 416 if the upstream never announces one', async () => {
  const bytes = patternBytes(1000)
  const content = new FakeContent(bytes)
  content.isSizeClaimed = true
  await start({ blobs: blobsOf(() => content) })
  const line = `GET /v2/a/blobs/${digestOf(bytes)}`
  const answer = await talkTo(app.port, head(line, 'Range: bytes=2000-\r\nConnection: close\r\n'))
  expect(statusesIn(answer)).toEqual(['416'])
  expect(content.planned).toEqual([{ start: 0, end: 1 }])
})

describe('a blob of unknown size', () => {
  const bytes = patternBytes(200_000)
  const path = `/v2/a/blobs/${digestOf(bytes)}`
  const get = (version: string) => `GET ${path} HTTP/${version}\r\nHost: x\r\n\r\n`

  it('is sent in chunks by HTTP/1.1, as it comes', async () => {
    const content = FakeContent.ofUnknownSize(bytes, 1000)
    await start({ blobs: blobsOf(() => content) })
    const answer = talkTo(app.port, get('1.1').replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))
    await until(() => content.waiters === 1)
    content.arrive()
    expect(await answer).toMatch(/transfer-encoding: chunked[^]*\r\n0\r\n\r\n$/i)
  })

  it('has its length by HTTP/1.0, which has no chunks, once it is known', async () => {
    const content = FakeContent.ofUnknownSize(bytes, 1000)
    await start({ blobs: blobsOf(() => content) })
    const answer = talkTo(app.port, get('1.0'))
    await until(() => content.waiters === 1)
    content.arrive()
    expect(await answer).toMatch(/^HTTP\/1.1 200 OK[^]*\r\ncontent-length: 200000\r\n/i)
    expect(bodyOf(await answer).equals(bytes)).toBe(true)
  })

  it('is an error by HTTP/1.0 where it breaks off, and never a part that looks whole', async () => {
    const content = FakeContent.ofUnknownSize(bytes, 100_000)
    await start({ blobs: blobsOf(() => content) })
    const answer = talkTo(app.port, get('1.0'))
    await until(() => content.waiters === 1)
    content.fail(new Error('cut'))
    expect(statusesIn(await answer)).toEqual(['500'])
  })

  it('is a 503 by HTTP/1.0 where nobody can wait that long', async () => {
    await start()
    const content = FakeContent.ofUnknownSize(bytes, 1000)
    const { signal } = new AbortController()
    await expect(untilSized(content, signal, 20)).rejects.toMatchObject({
      status: 503,
      headers: { 'retry-after': '30' },
    })
    expect(content.waiters).toBe(0)
  })

  it.each([
    ['1.0', ['200']],
    ['1.1', ['200', '200']],
  ])('has no length on HEAD by HTTP/%s, nor anything else', async (version, statuses) => {
    await start({ blobs: blobsOf(() => FakeContent.ofUnknownSize(bytes)) })
    const asked = `HEAD ${path} HTTP/${version}\r\nHost: x\r\n\r\n`
    const answer = await talkTo(app.port, asked, LAST)
    expect(statusesIn(answer)).toEqual(statuses)
    const [first = ''] = answer.split('\r\n\r\n')
    expect(first).not.toMatch(/content-length|transfer-encoding/i)
  })
})
