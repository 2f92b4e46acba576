// A cold blob over TLS, end to end: pieces go over connections of their own, never as streams of one,
// although the upstream would rather speak h2.
import { connect, type TLSSocket } from 'node:tls'
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createAuthority, type TestAuthority } from './support/certificates.ts'
import { mirrorOf, type RunningChandlery, startChandlery } from './support/chandlery.ts'
import { syntheticBytes } from './support/content.ts'
import { rawRequest } from './support/raw-client.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const MIB = 1024 * 1024
const SIZE = 12 * MIB
const REGISTRY = 'registry.test'

let directory: TemporaryDirectory
let authority: TestAuthority
let upstream: TestRegistry
let chandlery: RunningChandlery

beforeAll(async () => {
  directory = await temporaryDirectory()
  authority = await createAuthority()
  const { cert, key } = await authority.server('127.0.0.1')
  upstream = await startRegistry({ tls: { cert, key }, http2: true })
  chandlery = await startChandlery(directory.path, {
    ...mirrorOf(REGISTRY, upstream.url),
    configs: { [upstream.host]: { tls: { ca_file: authority.ca.certFile } } },
    fetch: { piece: '1MiB' },
  })
})

afterAll(async () => {
  await chandlery.stop()
  await upstream.close()
  await authority[Symbol.asyncDispose]()
  await directory.remove()
})

async function agreedOn(...ALPNProtocols: string[]): Promise<TLSSocket['alpnProtocol']> {
  const { port } = upstream
  const socket = connect({ port, host: '127.0.0.1', ca: authority.ca.cert, ALPNProtocols })
  await once(socket, 'secureConnect')
  const { alpnProtocol } = socket
  socket.destroy()
  return alpnProtocol
}

describe('a cold blob from a far upstream that offers h2', () => {
  test('comes over several connections, all of HTTP/1.1', async () => {
    // Else this would show nothing.
    expect(await agreedOn('h2', 'http/1.1')).toBe('h2')
    const [connections, negotiated] = [upstream.accepted, upstream.protocols.length]
    const blob = upstream.addBlob(syntheticBytes('tls', 0, SIZE))
    upstream.fault({ match: { kind: 'blob' }, delayMs: 50 })

    const url = `${chandlery.url}/v2/${REGISTRY}/team/app/blobs/${blob.digest}`
    const { bytes, complete } = await (await rawRequest(url)).body()

    expect(complete && bytes.equals(syntheticBytes('tls', 0, SIZE))).toBe(true)
    expect(upstream.accepted - connections).toBeGreaterThanOrEqual(4)
    expect([...new Set(upstream.protocols.slice(negotiated))]).toEqual(['http/1.1'])
  })
})
