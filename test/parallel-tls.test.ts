// A cold blob over TLS, end to end: pieces go over connections of their own, never as streams of one,
// although the upstream would rather speak h2.
import { connect, type TLSSocket } from 'node:tls'
import { once } from 'node:events'
import { describe, expect, test } from 'vitest'
import { createAuthority } from './support/certificates.ts'
import { syntheticBytes } from './support/content.ts'
import { createWorld } from './support/world.ts'

const MIB = 1024 * 1024
const SIZE = 12 * MIB

async function agreedOn(
  port: number,
  ca: string,
  ...ALPNProtocols: string[]
): Promise<TLSSocket['alpnProtocol']> {
  const socket = connect({ port, host: '127.0.0.1', ca, ALPNProtocols })
  await once(socket, 'secureConnect')
  const { alpnProtocol } = socket
  socket.destroy()
  return alpnProtocol
}

describe('a cold blob from a far upstream that offers h2', () => {
  test('comes over several connections, all of HTTP/1.1', async () => {
    await using authority = await createAuthority()
    const { cert, key } = await authority.server('127.0.0.1')
    await using world = await createWorld({
      upstreams: [{ tls: { cert, key }, http2: true }],
      config: ([registry]) => ({
        configs: { [registry!.host]: { tls: { ca_file: authority.ca.certFile } } },
        fetch: { piece: '1MiB' },
      }),
    })
    const { upstream, client } = world
    // Else this would show nothing.
    expect(await agreedOn(upstream.port, authority.ca.cert, 'h2', 'http/1.1')).toBe('h2')
    const [connections, negotiated] = [upstream.accepted, upstream.protocols.length]
    const blob = upstream.addBlob(syntheticBytes('tls', 0, SIZE))
    upstream.fault({ match: { kind: 'blob' }, delayMs: 50 })

    const { bytes, complete } = await (await client.openBlob(blob.digest)).body()

    expect(complete && bytes.equals(syntheticBytes('tls', 0, SIZE))).toBe(true)
    expect(upstream.accepted - connections).toBeGreaterThanOrEqual(4)
    expect([...new Set(upstream.protocols.slice(negotiated))]).toEqual(['http/1.1'])
  })
})
