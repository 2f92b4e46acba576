// CONNECT at an HTTP proxy (RFC 9110 section 9.3.6).
import type { Socket } from 'node:net'
import { Client, errors } from 'undici'

import { basic } from '../../../http/authorization.ts'
import type { Destination, Proxy } from './egress-proxy.ts'
import { TunnelError } from './tunnel-error.ts'

/** Throws TunnelError, or the error with which the connection breaks. */
export async function connectByHttp(socket: Socket, proxy: Proxy, to: Destination): Promise<void> {
  const host = to.hostname.includes(':') ? `[${to.hostname}]` : to.hostname
  const authority = `${host}:${to.port}`
  const authorization = proxyAuthorization(proxy)
  // The connection is there already, and the time limit is the caller's. undici expects its connector
  // to answer in a later turn.
  const client = new Client(`http://${proxy.hostname}:${proxy.port}`, {
    connect: (_options, callback) => void setImmediate(callback, null, socket),
    headersTimeout: 0,
  })
  try {
    const { statusCode: status } = await client.connect({
      path: authority,
      headers: {
        host: authority,
        ...(authorization !== undefined && { 'proxy-authorization': authorization }),
      },
    })
    if (status === 407) throw proxyAuthRequired(proxy)
    if (status < 200 || status > 299) throw new TunnelError(refusal(proxy, authority, status))
  } catch (error) {
    if (!(error instanceof errors.HTTPParserError)) throw error
    throw new TunnelError(`${proxy.origin} does not speak as an HTTP proxy`, { cause: error })
  }
}

/** Returns the value of Proxy-Authorization, if the proxy has a credential. */
export function proxyAuthorization({ credential }: Proxy): string | undefined {
  return credential && basic(credential.username, credential.password)
}

/** 407 (RFC 9110 section 15.5.8). */
export function proxyAuthRequired({ origin, credential }: Proxy): TunnelError {
  const has = credential === undefined ? 'wants a user and a password' : 'refuses our password'
  return new TunnelError(`the proxy ${origin} ${has} (407)`)
}

function refusal(proxy: Proxy, authority: string, status: number): string {
  return `the proxy ${proxy.origin} answers ${status} to CONNECT ${authority}`
}
