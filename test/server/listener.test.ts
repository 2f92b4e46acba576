import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync, renameSync, copyFileSync } from 'node:fs'
import { Agent, get as getTls } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { PiecePool } from '../../src/server/piece-pool.ts'
import { TlsKeyPair } from '../../src/server/tls-key-pair.ts'
import { FakeContent, patternBytes } from './fake-content.ts'
import { blobsOf, type RunningApp, startApp } from './fixture.ts'
import { until } from '../support/until.ts'

const MIB = 1024 * 1024
const PATH = `/v2/library/alpine/blobs/sha256:${'a'.repeat(64)}`

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'chandlery-tls-'))
  for (const name of ['one', 'two']) {
    const pair = ['-keyout', `${name}.key`, '-out', `${name}.crt`, '-subj', `/CN=${name}`]
    const options = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
    execFileSync('openssl', ['req', ...options, ...pair], { cwd: directory, stdio: 'ignore' })
  }
})
afterAll(() => rmSync(directory, { recursive: true }))

let app: RunningApp | undefined
afterEach(async () => {
  await app?.stop()
  app = undefined
})

/** A directory as Kubernetes mounts secrets: the files are links through a link that is swapped. */
function mountedPair(name: string) {
  const mount = mkdtempSync(join(directory, 'mount-'))
  const swap = (to: string) => {
    const data = mkdtempSync(join(mount, '..data-'))
    copyFileSync(join(directory, `${to}.crt`), join(data, 'tls.crt'))
    copyFileSync(join(directory, `${to}.key`), join(data, 'tls.key'))
    symlinkSync(data, join(mount, 'next'))
    renameSync(join(mount, 'next'), join(mount, '..data'))
  }
  swap(name)
  for (const file of ['tls.crt', 'tls.key']) symlinkSync(join('..data', file), join(mount, file))
  return { files: { certFile: join(mount, 'tls.crt'), keyFile: join(mount, 'tls.key') }, swap }
}

function nameServed(port: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket: TLSSocket = connectTls({ port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().subject.CN)
      socket.destroy()
    })
    socket.on('error', reject)
  })
}

describe('the TLS listener', () => {
  it('sends a blob whole, in growing pieces, and keeps the connection', async () => {
    const bytes = patternBytes(5 * MIB + 3)
    const pool = new PiecePool()
    app = await startApp({
      tls: new TlsKeyPair(mountedPair('one').files),
      blobs: blobsOf(() => new FakeContent(bytes)),
      pool,
    })
    const agent = new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false })
    for (let round = 0; round < 2; round++) {
      const body = await new Promise<Buffer>((resolve, reject) => {
        getTls(app!.url + PATH, { agent }, (res) => {
          const chunks: Buffer[] = []
          res.on('data', (chunk: Buffer) => chunks.push(chunk))
          res.on('end', () => resolve(Buffer.concat(chunks)))
        }).on('error', reject)
      })
      expect(body.equals(bytes)).toBe(true)
    }
    agent.destroy()
    expect(pool.usage.peak).toBeGreaterThan(64 * 1024)
    await until(() => pool.usage.inUse === 0)
  })

  it('drops a client that reads nothing', async () => {
    const content = new FakeContent(patternBytes(64 * MIB))
    app = await startApp({
      tls: new TlsKeyPair(mountedPair('one').files),
      blobs: blobsOf(() => content),
      clientStallTimeoutMs: 200,
    })
    const socket = connectTls({ port: app.port, rejectUnauthorized: false }, () => {
      socket.write(`GET ${PATH} HTTP/1.1\r\nHost: x\r\n\r\n`)
      socket.pause()
    })
    socket.on('error', () => {})
    await until(() => content.closed === 1, 'the drop')
    socket.destroy()
  })

  it('serves a renewed certificate, swapped as Kubernetes swaps it, on new connections', async () => {
    const { files, swap } = mountedPair('one')
    const tls = new TlsKeyPair(files)
    app = await startApp({ tls })
    expect(await nameServed(app.port)).toBe('one')
    expect(await tls.read(files)).toBeUndefined()
    swap('two')
    expect(await nameServed(app.port)).toBe('one')
    tls.use((await tls.read(files))!)
    expect(await nameServed(app.port)).toBe('two')
  })

  it('keeps the old key pair while the new one cannot be used, and says why', async () => {
    const { files } = mountedPair('one')
    const tls = new TlsKeyPair(files)
    app = await startApp({ tls })
    rmSync(files.keyFile)
    writeFileSync(files.keyFile, 'no key')
    await expect(tls.read(files)).rejects.toThrow(/tls\.crt.*tls\.key cannot be used/)
    expect(await nameServed(app.port)).toBe('one')
  })

  it('does not start with a key pair that cannot be used', () => {
    const certFile = join(directory, 'one.crt')
    const pair = (keyFile: string) => () => new TlsKeyPair({ certFile, keyFile })
    expect(pair(join(directory, 'none.key'))).toThrow(/one\.crt.*none\.key.*cannot be used.*ENOENT/)
    expect(pair(join(directory, 'two.key'))).toThrow(/cannot be used.*mismatch/i)
  })

  it('tells a client that speaks plain HTTP to use https, and closes', async () => {
    app = await startApp({ tls: new TlsKeyPair(mountedPair('one').files) })
    const answer = await new Promise<string>((resolve) => {
      const socket = connect(app!.port, '127.0.0.1', () =>
        socket.write('GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n'),
      )
      let text = ''
      socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
      socket.on('close', () => resolve(text))
      socket.on('error', () => {})
    })
    expect(answer).toMatch(/^HTTP\/1.1 400 Bad Request\r\n[^]*use https:\/\//)
  })
})
