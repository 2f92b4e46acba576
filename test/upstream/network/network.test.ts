import { createServer, type Socket } from 'node:net'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

import type { HostOptions } from '../../../src/upstream/network/transport.ts'
import { createAuthority, type KeyPair, type TestAuthority } from '../../support/certificates.ts'
import { startRegistry, type TestRegistry } from '../../support/registry.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import { copyFile } from 'node:fs/promises'
import { failureOf, REPO, upstreamOver } from '../upstream-fixture.ts'
import { until } from '../../support/until.ts'

let authority: TestAuthority
let pair: KeyPair

beforeAll(async () => {
  authority = await createAuthority()
  pair = await authority.server('127.0.0.1', 'registry.test')
})

afterAll(async () => {
  await authority[Symbol.asyncDispose]()
})

/** Pulls once from a fresh client. */
async function pull(url: string, host: HostOptions = {}) {
  await using at = upstreamOver([url], { hosts: { [new URL(url).host]: host } })
  return await at.upstream.getManifest(REPO, 'latest', at.requester)
}

/** A server that does with each connection what it is told. */
async function raw(onSocket: (socket: Socket) => void) {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    onSocket(socket)
  })
  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(0, '127.0.0.1', resolve)
  await promise
  const { port } = server.address() as AddressInfo
  const dispose = async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
  return { host: `127.0.0.1:${port}`, [Symbol.asyncDispose]: dispose }
}

function tlsRegistry(extra: object = {}): Promise<TestRegistry> {
  return startRegistry({ tls: { cert: pair.cert, key: pair.key, ...extra } })
}

describe('the wrong scheme', () => {
  test('https for a server that speaks HTTP leads to the advice to write http', async () => {
    await using registry = await startRegistry()
    const failure = await failureOf(pull(`https://${registry.host}`))
    expect(failure).toMatchObject({ reason: 'plain-http', kind: 'unavailable' })
    expect(failure.message).toContain(`write http://${registry.host} in mirrors`)
  })

  test('is not corrected by insecure_skip_verify: https stays https', async () => {
    await using registry = await startRegistry()
    const failure = await failureOf(
      pull(`https://${registry.host}`, { tls: { insecure_skip_verify: true } }),
    )
    expect(failure.reason).toBe('plain-http')
  })

  test('http for a server that answers with a TLS alert leads to the advice to write https', async () => {
    await using server = await raw((socket) => {
      socket.once('data', () => socket.end(Buffer.from('15030100020246', 'hex')))
    })
    const failure = await failureOf(pull(`http://${server.host}`))
    expect(failure.reason).toBe('not-plain-http')
    expect(failure.message).toContain(`write https://${server.host} in mirrors`)
  })
})

describe.concurrent('a certificate', () => {
  test('of an unknown authority is not trusted until ca_file names it', async () => {
    await using registry = await tlsRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    const failure = await failureOf(pull(registry.url))
    expect(failure).toMatchObject({ reason: 'not-trusted', kind: 'unavailable' })
    expect(failure.message).toContain(`configs."${registry.host}".tls.ca_file`)
    const tls = { ca_file: authority.ca.certFile }
    expect(await pull(registry.url, { tls })).toMatchObject({ digest: image.digest })
  })

  test('is not checked with insecure_skip_verify', async () => {
    await using registry = await tlsRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    const tls = { insecure_skip_verify: true }
    expect(await pull(registry.url, { tls })).toMatchObject({ digest: image.digest })
  })

  test('for another name is not trusted', async () => {
    await using registry = await tlsRegistry()
    const url = `https://localhost:${registry.port}`
    const failure = await failureOf(pull(url, { tls: { ca_file: authority.ca.certFile } }))
    expect(failure.reason).toBe('not-trusted')
    expect(failure.message).toContain('not for localhost')
  })

  test('of our own is shown where the server wants one, and lacking one is reported as such', async () => {
    await using registry = await tlsRegistry({
      ca: authority.ca.cert,
      requestCert: true,
      rejectUnauthorized: true,
    })
    const image = registry.addImage('library/alpine', 'latest')
    const ca_file = authority.ca.certFile
    const client = await authority.client('chandlery')
    const tls = { ca_file, cert_file: client.certFile, key_file: client.keyFile }
    expect(await pull(registry.url, { tls })).toMatchObject({ digest: image.digest })
    const failure = await failureOf(pull(registry.url, { tls: { ca_file } }))
    expect(['tls', 'reset']).toContain(failure.reason)
  })

  test('file that is missing or invalid is reported as such', async () => {
    await using registry = await tlsRegistry()
    for (const ca_file of ['/does/not/exist', pair.keyFile.replace(/key$/, 'cnf')]) {
      const failure = await failureOf(pull(registry.url, { tls: { ca_file } }))
      expect(failure.reason).toBe('tls')
      expect(failure.message).toContain(`configs."${registry.host}".tls: ca_file ${ca_file}`)
    }
  })

  test('file that changes is read again', async () => {
    await using registry = await tlsRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    await using other = await createAuthority('another')
    await using directory = await temporaryDirectory()
    const ca_file = directory.join('ca.pem')
    await copyFile(other.ca.certFile, ca_file)
    await using at = upstreamOver([registry.url], { hosts: { '*': { tls: { ca_file } } } })
    const ask = () => at.upstream.getManifest(REPO, 'latest', at.requester)
    expect(await failureOf(ask())).toMatchObject({ reason: 'not-trusted' })
    await copyFile(authority.ca.certFile, ca_file)
    // It is looked at once a second.
    const isTrusted = async () => await ask().then(Boolean, () => false)
    await until(isTrusted)
    expect(await ask()).toMatchObject({ digest: image.digest })
  })
})

describe.concurrent('the resolve setting', () => {
  test('connects to the given address, with the name in SNI and Host', async () => {
    let servername: string | undefined
    const SNICallback = (name: string, done: (error: null) => void) => {
      servername = name
      done(null)
    }
    await using registry = await tlsRegistry({ SNICallback })
    const image = registry.addImage('library/alpine', 'latest')
    const host = { resolve: ['127.0.0.1'], tls: { ca_file: authority.ca.certFile } }
    const manifest = await pull(`https://registry.test:${registry.port}`, host)
    expect(manifest.digest).toBe(image.digest)
    expect(servername).toBe('registry.test')
    expect(registry.requests[0]?.headers.host).toBe(`registry.test:${registry.port}`)
  })
})

describe.concurrent('an endpoint', () => {
  test('that does not exist in DNS fails as name-not-resolved', async () => {
    const failure = await failureOf(pull('http://no-such-host.invalid'))
    expect(failure).toMatchObject({ reason: 'name-not-resolved', kind: 'unavailable' })
    expect(failure.message).toContain('configs."no-such-host.invalid".resolve')
  })

  test('where nobody listens fails as refused', async () => {
    const registry = await startRegistry()
    await registry.close()
    expect(await failureOf(pull(registry.url))).toMatchObject({ reason: 'refused' })
  })

  test('that accepts and says nothing fails as timed-out', async () => {
    await using server = await raw(() => undefined)
    expect(await failureOf(pull(`http://${server.host}`))).toMatchObject({ reason: 'timed-out' })
    const tls = await failureOf(pull(`https://${server.host}`))
    expect(tls).toMatchObject({ reason: 'timed-out' })
  })

  test('that resets or closes without a response fails as reset', async () => {
    await using resetting = await raw((socket) => socket.resetAndDestroy())
    await using closing = await raw((socket) => socket.once('data', () => socket.end()))
    expect(await failureOf(pull(`http://${resetting.host}`))).toMatchObject({ reason: 'reset' })
    expect(await failureOf(pull(`http://${closing.host}`))).toMatchObject({ reason: 'reset' })
  })

  test('that does not speak HTTP fails as protocol', async () => {
    await using server = await raw((socket) => socket.end('SSH-2.0-OpenSSH_9.9\r\n'))
    expect(await failureOf(pull(`http://${server.host}`))).toMatchObject({ reason: 'protocol' })
  })

  test('that blocks us fails as blocked, and one that limits us as rate-limited', async () => {
    await using registry = await startRegistry()
    const fault = registry.fault({
      status: 403,
      body: '<html>no',
      headers: { 'content-type': 'text/html' },
    })
    expect(await failureOf(pull(registry.url))).toMatchObject({ reason: 'blocked', kind: 'denied' })
    fault.remove()
    registry.fault({ status: 429, headers: { 'retry-after': '3' } })
    const limited = await failureOf(pull(registry.url))
    expect(limited).toMatchObject({
      reason: 'rate-limited',
      kind: 'rate-limited',
      retryAfterMs: 3000,
    })
  })
})
