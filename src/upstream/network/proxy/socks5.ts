// SOCKS5 by the `socks` package: CONNECT (RFC 1928), with or without user and password (RFC 1929). The
// proxy resolves names.
import type { Socket } from 'node:net'
import { SocksClient, SocksClientError } from 'socks'

import type { Destination, Proxy } from './egress-proxy.ts'
import { TunnelError } from './tunnel-error.ts'

/** Lengths are one byte (RFC 1928, RFC 1929). */
const MAX_TEXT_BYTES = 255
/** The caller's time limit is shorter. */
const NEVER_MS = 2 ** 31 - 1

/**
 * What the package's messages mean for the operator; they are its only way to tell refusals apart.
 */
const MEANINGS: readonly (readonly [pattern: RegExp, what: string])[] = [
  [/authentication failed/i, 'refuses our user and password'],
  [/no accepted authentication type/i, 'wants a user and a password'],
  [/invalid (socks|initial handshake)|unexpected/i, 'is not a SOCKS5 proxy'],
  [/NotAllowed/, 'does not allow that'],
  [/NetworkUnreachable/, 'finds no route to the network'],
  [/HostUnreachable/, 'finds no route to the host'],
  [/ConnectionRefused/, 'was refused a connection'],
  [/TTLExpired/, 'gives up (TTL expired)'],
  [/rejected connection/, 'does not lead there'],
]

/** Throws TunnelError, or the error with which the connection breaks. */
export async function connectBySocks(socket: Socket, proxy: Proxy, to: Destination): Promise<void> {
  const { credential } = proxy
  // The package would throw into the socket's own event, where nobody catches it.
  for (const text of [credential?.username, credential?.password, to.hostname]) {
    if (text !== undefined && Buffer.byteLength(text) > MAX_TEXT_BYTES) {
      throw new TunnelError('a name, user or password is longer than SOCKS5 allows (255 bytes)')
    }
  }
  try {
    await SocksClient.createConnection({
      proxy: {
        host: proxy.hostname,
        port: proxy.port,
        type: 5,
        ...(credential && { userId: credential.username, password: credential.password }),
      },
      command: 'connect',
      destination: { host: to.hostname, port: to.port },
      existing_socket: socket,
      timeout: NEVER_MS,
    })
  } catch (error) {
    if (!(error instanceof SocksClientError)) throw error
    const what = MEANINGS.find(([pattern]) => pattern.test(error.message))?.[1]
    if (what === undefined) throw error
    // The package's errors hold its options, the password among them: not kept as the cause.
    throw new TunnelError(`the proxy ${proxy.origin} ${what}: ${to.hostname}:${to.port}`)
  }
}
