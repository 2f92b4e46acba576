// CONNECT at an HTTP proxy (RFC 9110 9.3.6).
import { TunnelError } from './handshake.ts'
import type { Handshake } from './handshake.ts'
import type { Proxy } from './egress-proxy.ts'
import { basic } from '../../../http/authorization.ts'

const MAX_HEAD_BYTES = 16 * 1024

/** Throws TunnelError, or what the connection breaks with. */
export async function connectByHttp({ reader, socket, proxy, to }: Handshake): Promise<void> {
  const host = to.hostname.includes(':') ? `[${to.hostname}]` : to.hostname
  const authority = `${host}:${to.port}`
  const authorization = proxyAuthorization(proxy)
  const lines = [
    `CONNECT ${authority} HTTP/1.1`,
    `Host: ${authority}`,
    ...(authorization === undefined ? [] : [`Proxy-Authorization: ${authorization}`]),
  ]
  socket.write(`${lines.join('\r\n')}\r\n\r\n`)
  const head = await reader.readUntil('\r\n\r\n', MAX_HEAD_BYTES)
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(head.toString('latin1'))?.[1]
  if (status === undefined) throw new TunnelError(`${proxy.origin} does not speak as an HTTP proxy`)
  if (status === '407') throw wantsUs(proxy)
  if (!status.startsWith('2')) throw new TunnelError(refusal(proxy, authority, Number(status)))
}

/** The value of Proxy-Authorization. */
export function proxyAuthorization({ credential }: Proxy): string | undefined {
  return credential && basic(credential.username, credential.password)
}

/** 407 (RFC 9110 15.5.8). */
export function wantsUs({ origin, credential }: Proxy): TunnelError {
  const has = credential === undefined ? 'wants a user and a password' : 'refuses our password'
  return new TunnelError(`the proxy ${origin} ${has} (407)`)
}

function refusal(proxy: Proxy, authority: string, status: number): string {
  return `the proxy ${proxy.origin} answers ${status} to CONNECT ${authority}`
}
