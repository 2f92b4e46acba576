// A connection through a proxy: to the proxy, then by CONNECT (RFC 9110 9.3.6) or SOCKS5 (RFC 1928)
// to where it should lead. TLS with the registry goes inside it, so the proxy sees no content.
import type { Socket } from 'node:net'

import { connectByHttp } from './http-connect.ts'
import { SocketReader, TunnelError } from './handshake.ts'
import type { Destination } from './handshake.ts'
import type { Proxy } from './egress-proxy.ts'
import { connectBySocks } from './socks5.ts'

/** Leads an open connection to the proxy on to the destination. Throws TunnelError; the socket is then destroyed. */
export async function openTunnel(
  socket: Socket,
  proxy: Proxy,
  to: Destination,
  timeoutMs: number,
): Promise<void> {
  const what = `the proxy ${proxy.origin} does not answer in time`
  const late = new TunnelError(what, { isLate: true })
  const timer = setTimeout(() => socket.destroy(late), timeoutMs)
  const reader = new SocketReader(socket)
  try {
    const connect = proxy.scheme === 'socks5' ? connectBySocks : connectByHttp
    await connect({ reader, socket, proxy, to })
  } catch (error) {
    socket.destroy()
    if (error instanceof TunnelError) throw error
    const why = error instanceof Error ? error.message : String(error)
    throw new TunnelError(`the proxy ${proxy.origin} broke the connection off (${why})`, {
      cause: error,
    })
  } finally {
    clearTimeout(timer)
    reader.release()
  }
}
