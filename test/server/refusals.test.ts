// Connections on which no request can be read: what they are told, that they are closed, and that
// they are counted. What is odd, and a request all the same, is in requests.test.ts.
import { execFileSync, spawn } from 'node:child_process'
import { promisify } from 'node:util'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts'
import { FakeContent, patternBytes } from './fake-content.ts'
import { TlsKeyPair } from '../../src/server/tls-key-pair.ts'
import { until } from '../support/until.ts'
import { blobsOf, type RunningApp, startApp, talkTo, type TestOptions } from './fixture.ts'

const TLS_HELLO = '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'
const HTTP2_PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const LONG = 'x'.repeat(70_000)

let app: RunningApp
afterEach(() => app.stop())

async function start(options: TestOptions = {}): Promise<void> {
  app = await startApp(options)
}

describe('a connection without a readable request', () => {
  it.each([
    ['a TLS hello', TLS_HELLO, 400, 'tls-to-plain-port', /use http:/],
    ['HTTP/2', HTTP2_PREFACE, 400, 'http2', /use HTTP\/1.1/],
    ['a long header', `GET / HTTP/1.1\r\nA: ${LONG}\r\n\r\n`, 400, 'header-too-large', /too large/],
    ['a long target', `GET /${LONG} HTTP/1.1\r\n\r\n`, 400, 'header-too-large', /too large/],
    ['nonsense', 'nonsense\r\n\r\n', 400, 'malformed', /not a valid HTTP request/],
    [
      'an odd header',
      'GET / HTTP/1.1\r\nA b: c\r\n\r\n',
      400,
      'malformed',
      /not a valid HTTP request/,
    ],
    ['two lengths', lengths(3, 4), 400, 'malformed', /not a valid HTTP request/],
  ])('with %s is told why, closed and counted', async (_what, text, status, reason, why) => {
    await start()
    const answer = await talkTo(app.port, text)
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} [^]*Connection: close\r\n`))
    const body = answer.slice(answer.indexOf('\r\n\r\n'))
    expect(JSON.parse(body)).toMatchObject({ errors: [{ message: expect.stringMatching(why) }] })
    expect(app.refused).toEqual([
      { reason, message: expect.stringMatching(why), client: '127.0.0.1' },
    ])
  })

  it('in time is answered with 408, and so is one that sends nothing', async () => {
    await start({ arrivalMs: 100 })
    const answers = [talkTo(app.port, 'GET /v2/ HTTP/1.1\r\nHo'), talkTo(app.port, '')]
    for (const answer of answers) expect(await answer).toMatch(/^HTTP\/1.1 408 [^]*in time/)
    expect(app.refused.map(({ reason }) => reason)).toEqual(['timed-out', 'timed-out'])
  })

  it('that ends in the middle is answered with the reason', async () => {
    await start()
    const socket = connect({ port: app.port, host: '127.0.0.1', allowHalfOpen: true })
    socket.end('GET /v2/ HTT')
    const answer = await new Promise<string>((resolve) => {
      socket.once('data', (bytes: Buffer) => resolve(bytes.toString()))
    })
    expect(answer).toMatch(/^HTTP\/1.1 400 [^]*ended before/)
    socket.destroy()
    expect(app.refused).toMatchObject([{ reason: 'malformed' }])
  })

  it('can read why although it goes on sending', async () => {
    await start()
    const more = Array.from({ length: 20 }, () => `B: ${LONG}\r\n`)
    const answer = await talkTo(app.port, 'GET / HTTP/1.1\r\n', ...more)
    expect(answer).toMatch(/^HTTP\/1.1 400 [^]*too large/)
    expect(app.refused).toHaveLength(1)
  })

  it('that just leaves is not counted as refused', async () => {
    await start()
    const connections = promisify(app.app.server.getConnections.bind(app.app.server))
    const socket = connect(app.port, '127.0.0.1', () => socket.write('GET /v2/ HT'))
    await until(async () => (await connections()) === 1)
    socket.resetAndDestroy()
    await until(async () => (await connections()) === 0)
    expect(app.refused).toEqual([])
  })

  it('behind a good one is counted in addition to it', async () => {
    await start()
    const good = 'GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n'
    expect(await talkTo(app.port, good, 'nonsense\r\n\r\n')).toMatch(/ 200 OK[^]* 400 Bad Request/)
    expect(app.refused).toMatchObject([{ reason: 'malformed' }])
    expect(app.records).toMatchObject([{ status: 200, aborted: false }])
  })

  it('while a response is being sent adds nothing to it', async () => {
    const content = new FakeContent(patternBytes(2000), 1000)
    await start({ blobs: blobsOf(() => content) })
    const get = `GET /v2/a/blobs/${content.digest} HTTP/1.1\r\nHost: x\r\n\r\n`
    const answer = await talkTo(app.port, get, 'nonsense\r\n\r\n')
    expect(answer.match(/HTTP\/1.1/g)).toHaveLength(1)
    await until(() => app.records.length === 1)
    expect(app.refused).toMatchObject([{ reason: 'malformed' }])
    expect(app.records).toMatchObject([{ status: 200, aborted: true }])
  })
})

describe('on the TLS port', () => {
  let directory: TemporaryDirectory
  let tls: { certFile: string; keyFile: string }
  beforeAll(async () => {
    directory = await temporaryDirectory()
    tls = { certFile: join(directory.path, 'a.crt'), keyFile: join(directory.path, 'a.key') }
    const files = ['-keyout', tls.keyFile, '-out', tls.certFile, '-subj', '/CN=a', '-nodes']
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
    execFileSync('openssl', ['req', '-x509', ...key, ...files], { stdio: 'ignore' })
  })
  afterAll(() => directory.remove())

  it('plain HTTP is told to use https, and counted', async () => {
    await start({ tls: new TlsKeyPair(tls) })
    const answer = await talkTo(app.port, 'GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n')
    expect(answer).toMatch(/^HTTP\/1.1 400 [^]*use https:/)
    expect(app.refused).toMatchObject([{ reason: 'plain-to-tls-port', client: '127.0.0.1' }])
  })

  it('a handshake that fails is counted, with the reason', async () => {
    await start({ tls: new TlsKeyPair(tls) })
    const socket = connectTls({ port: app.port, maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA' })
    socket.on('error', () => {})
    await until(() => app.refused.length === 1)
    expect(app.refused).toMatchObject([
      { reason: 'tls-handshake', message: expect.stringContaining('no shared cipher') },
    ])
  })

  it('a client that does not trust the certificate is counted', async () => {
    await start({ tls: new TlsKeyPair(tls) })
    const distrusting = ['s_client', '-verify_return_error', '-connect', `127.0.0.1:${app.port}`]
    const client = spawn('openssl', distrusting, { stdio: 'ignore' })
    await until(() => app.refused.length === 1)
    expect(app.refused).toMatchObject([
      { reason: 'tls-handshake', message: expect.stringMatching(/unknown ca|bad certificate/) },
    ])
    client.kill()
  })
})

function lengths(...each: number[]): string {
  const lines = each.map((length) => `Content-Length: ${length}\r\n`)
  return `GET /v2/ HTTP/1.1\r\nHost: x\r\n${lines.join('')}\r\n`
}
