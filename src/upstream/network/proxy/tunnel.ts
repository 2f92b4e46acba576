// A tunnel through a proxy, by CONNECT (RFC 9110 section 9.3.6) or SOCKS5 (RFC 1928). TLS with the
// registry goes inside it, so the proxy sees no content.
//
// undici's own ProxyAgent and Socks5ProxyAgent were tried: they lead to the name in the URL, so that
// an operator's `resolve` address cannot be used, and they do not say with which status a proxy refused.
import type { Socket } from 'node:net'

import type { Destination, Proxy } from './egress-proxy.ts'
import { connectByHttp } from './http-connect.ts'
import { connectBySocks } from './socks5.ts'
import { TunnelError } from './tunnel-error.ts'

/**
 * Asks the proxy at the other end of `socket` to lead on to the destination. From then on the socket
 * belongs to the destination. Throws TunnelError; the socket is then destroyed.
 */
export async function openTunnel(
  socket: Socket,
  proxy: Proxy,
  to: Destination,
  timeoutMs: number,
): Promise<void> {
  const what = `the proxy ${proxy.origin} does not answer in time`
  const late = new TunnelError(what, { timedOut: true })
  let timedOut = false
  const timer = setTimeout(() => {
    timedOut = true
    socket.destroy(late)
  }, timeoutMs)
  try {
    const connect = proxy.scheme === 'socks5' ? connectBySocks : connectByHttp
    await connect(socket, proxy, to)
  } catch (error) {
    socket.destroy()
    if (timedOut) throw late
    if (error instanceof TunnelError) throw error
    const why = error instanceof Error ? error.message : String(error)
    throw new TunnelError(`the proxy ${proxy.origin} broke the connection off (${why})`, {
      cause: error,
    })
  } finally {
    clearTimeout(timer)
  }
}
