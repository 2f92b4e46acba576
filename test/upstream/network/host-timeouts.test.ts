// The time limits of one host alone: everywhere that something is asked of it or of where it leads.
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { describe, expect, test } from 'vitest'

import { Proxy } from '../../../src/upstream/network/proxy/egress-proxy.ts'
import type { HostOptions } from '../../../src/upstream/network/transport.ts'
import { startHttpProxy } from '../../support/proxy-server.ts'
import { startRegistry } from '../../support/registry.ts'
import { startStorageHost } from '../../support/storage-host.ts'
import { startTokenServer } from '../../support/token-server.ts'
import { collect, failureOf, REPO, upstreamOver, type Fixture } from '../upstream-fixture.ts'

/** Longer than any test may take: only what a host has of its own can be shorter. */
const PATIENT = {
  connectTimeoutMs: 20_000,
  headersTimeoutMs: 20_000,
  bodyStallMs: 20_000,
  tokenTimeoutMs: 20_000,
  documentTimeoutMs: 20_000,
}
const QUICK: HostOptions = { timeouts: { connectMs: 200, firstByteMs: 200, stallMs: 200 } }
/** undici looks at its limits once a second. */
const SOON_MS = 4000
const TIMED_OUT = { reason: 'timed-out', kind: 'unavailable' }
const { signal } = new AbortController()

function upstream(url: string, hosts: Record<string, HostOptions>): Fixture {
  return upstreamOver([url], { limits: PATIENT, hosts })
}

function pull(at: Fixture) {
  return at.upstream.getManifest(REPO, 'latest', at.requester)
}

async function soon(asked: Promise<unknown>): Promise<void> {
  const startedAt = Date.now()
  expect(await failureOf(asked)).toMatchObject(TIMED_OUT)
  expect(Date.now() - startedAt).toBeLessThan(SOON_MS)
}

/** Accepts connections and says nothing, not even in TLS. */
async function mute() {
  const sockets: Socket[] = []
  const server = createServer((socket) => void sockets.push(socket.on('error', () => undefined)))
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  const dispose = async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
  const { port } = server.address() as AddressInfo
  return { host: `127.0.0.1:${port}`, [Symbol.asyncDispose]: dispose }
}

describe.concurrent('a host that is given less time than others', () => {
  test('is abandoned in that time: the head of a document', async () => {
    await using registry = await startRegistry()
    registry.fault({ stall: 'headers' })
    await using at = upstream(registry.url, { [registry.host]: QUICK })
    await soon(pull(at))
  })

  test('is abandoned in that time: the body of a document', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    registry.fault({ stall: { afterBytes: 1 } })
    await using at = upstream(registry.url, { [registry.host]: QUICK })
    await soon(pull(at))
  })

  test('is abandoned in that time: the body of a blob', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(Buffer.alloc(1000))
    registry.fault({ stall: { afterBytes: 1 } })
    await using at = upstream(registry.url, { [registry.host]: QUICK })
    const [source] = at.upstream.blobSources(REPO, at.requester)
    const { body } = await source!.fetch(digest, 0, signal)
    await soon(collect(body))
  })

  test('is abandoned in that time: its TLS handshake', async () => {
    await using server = await mute()
    await using at = upstream(`https://${server.host}`, { [server.host]: QUICK })
    await soon(pull(at))
  })

  test('is abandoned in that time: a proxy on the way to it', async () => {
    await using proxy = await startHttpProxy({ silent: true })
    const url = `http://127.0.0.1:${proxy.port}`
    const host = { ...QUICK, proxy: new Proxy(url) }
    await using at = upstream('https://registry.test', { 'registry.test': host })
    await soon(pull(at))
  })

  test('is abandoned in that time: a probe', async () => {
    await using registry = await startRegistry()
    registry.fault({ stall: 'headers' })
    await using at = upstream(registry.url, { [registry.host]: QUICK })
    const startedAt = Date.now()
    await at.client.probe(at.endpoints[0]!)
    expect(Date.now() - startedAt).toBeLessThan(SOON_MS)
    expect(at.client.health.stateOf(at.endpoints[0]!)).toBe('open')
  })

  test('is abandoned in that time: the host that it redirects to', async () => {
    await using storage = await startStorageHost()
    await using registry = await startRegistry({ redirectBlobs: storage })
    const { digest } = registry.addBlob(Buffer.from('content'))
    storage.fault({ stall: 'headers' })
    await using at = upstream(registry.url, { [registry.host]: QUICK })
    const [source] = at.upstream.blobSources(REPO, at.requester)
    await soon(source!.fetch(digest, 0, signal))
  })

  test('is abandoned in that time: the token server that it names', async () => {
    await using tokens = await startTokenServer()
    await using registry = await startRegistry({ auth: { kind: 'token', tokens } })
    registry.addImage('library/alpine', 'latest')
    tokens.fault({ stall: 'headers' })
    await using at = upstream(registry.url, { [registry.host]: QUICK })
    await soon(pull(at))
  })
})

describe.concurrent('a host that another one leads to', () => {
  test('has its own limits where it has an entry: a token server', async () => {
    await using tokens = await startTokenServer()
    await using registry = await startRegistry({ auth: { kind: 'token', tokens } })
    registry.addImage('library/alpine', 'latest')
    tokens.fault({ stall: 'headers' })
    await using at = upstream(registry.url, { [new URL(tokens.url).host]: QUICK })
    await soon(pull(at))
  })

  test('has its own limits where it has an entry: a storage host', async () => {
    await using storage = await startStorageHost()
    await using registry = await startRegistry({ redirectBlobs: storage })
    const { digest } = registry.addBlob(Buffer.from('content'))
    storage.fault({ stall: 'headers' })
    await using at = upstream(registry.url, { [new URL(storage.url).host]: QUICK })
    const [source] = at.upstream.blobSources(REPO, at.requester)
    await soon(source!.fetch(digest, 0, signal))
  })
})

describe.concurrent('a host that is given more time than others', () => {
  const hasty = { connectTimeoutMs: 300, headersTimeoutMs: 300, bodyStallMs: 300 }
  const whole = { tokenTimeoutMs: 300, documentTimeoutMs: 300 }
  const SLOW: HostOptions = { timeouts: { firstByteMs: 20_000 } }

  test('may take it, also where the limit for a whole document would be exceeded', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    registry.fault({ delayMs: 2500 })
    const limits = { ...hasty, ...whole }
    await using at = upstreamOver([registry.url], { limits, hosts: { '*': SLOW } })
    expect((await pull(at)).digest).toBe(image.digest)
  })

  test('may take it for a token too', async () => {
    await using tokens = await startTokenServer()
    await using registry = await startRegistry({ auth: { kind: 'token', tokens } })
    const image = registry.addImage('library/alpine', 'latest')
    tokens.fault({ delayMs: 2500 })
    const limits = { ...hasty, ...whole }
    await using at = upstreamOver([registry.url], { limits, hosts: { '*': SLOW } })
    expect((await pull(at)).digest).toBe(image.digest)
  })
})
