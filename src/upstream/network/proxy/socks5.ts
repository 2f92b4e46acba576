// SOCKS5: CONNECT (RFC 1928) with or without user and password (RFC 1929). Names are resolved there.
import { isIPv4, isIPv6 } from 'node:net'

import { groupsOfV6 } from '../../address/addresses.ts'
import { TunnelError } from './handshake.ts'
import type { Destination, Handshake } from './handshake.ts'
import type { Proxy } from './egress-proxy.ts'

const VERSION = 5
const NO_AUTHENTICATION = 0
const USER_AND_PASSWORD = 2
const CONNECT = 1
const ADDRESS_TYPES = { v4: 1, name: 3, v6: 4 } as const

/** RFC 1928 6. */
const REPLIES = [
  'succeeded',
  'failed',
  'does not allow that',
  'finds no way to the network',
  'finds no way to the host',
  'is refused there',
  'gives up (TTL expired)',
  'knows no CONNECT',
  'knows no such address',
]

/** Throws TunnelError, or what the connection breaks with. */
export async function connectBySocks(handshake: Handshake): Promise<void> {
  const { reader, socket, proxy, to } = handshake
  const methods = [NO_AUTHENTICATION, ...(proxy.credential ? [USER_AND_PASSWORD] : [])]
  socket.write(Buffer.from([VERSION, methods.length, ...methods]))
  const [version, method] = await reader.read(2)
  if (version !== VERSION) throw new TunnelError(`${proxy.origin} is no SOCKS5 proxy`)
  if (method === USER_AND_PASSWORD && proxy.credential) await authenticate(handshake)
  else if (method !== NO_AUTHENTICATION) throw new TunnelError(wanting(proxy))
  socket.write(Buffer.concat([Buffer.from([VERSION, CONNECT, 0]), addressOf(to)]))
  const [, reply = 0, , type] = await reader.read(4)
  if (reply !== 0) {
    const what = REPLIES[reply] ?? `answers ${reply}`
    throw new TunnelError(`the proxy ${proxy.origin} ${what}: ${to.hostname}:${to.port}`)
  }
  // The address it connected from: of no use, but to be read.
  const length = type === ADDRESS_TYPES.name ? (await reader.read(1))[0] : type === 4 ? 16 : 4
  await reader.read((length ?? 0) + 2)
}

async function authenticate({ reader, socket, proxy }: Handshake): Promise<void> {
  const { username = '', password = '' } = proxy.credential ?? {}
  socket.write(Buffer.concat([Buffer.from([1]), counted(username), counted(password)]))
  const [, status] = await reader.read(2)
  if (status !== 0) throw new TunnelError(`the proxy ${proxy.origin} refuses our user and password`)
}

function wanting({ origin, credential }: Proxy): string {
  const what = credential ? 'another authentication' : 'a user and a password'
  return `the proxy ${origin} wants ${what}`
}

function addressOf({ hostname, port }: Destination): Buffer {
  const portBytes = Buffer.alloc(2)
  portBytes.writeUInt16BE(port)
  return Buffer.concat([hostBytes(hostname), portBytes])
}

function hostBytes(hostname: string): Buffer {
  if (isIPv4(hostname)) {
    return Buffer.from([ADDRESS_TYPES.v4, ...hostname.split('.').map(Number)])
  }
  if (!isIPv6(hostname)) {
    return Buffer.concat([Buffer.from([ADDRESS_TYPES.name]), counted(hostname)])
  }
  const groups = groupsOfV6(hostname)
  return Buffer.from([ADDRESS_TYPES.v6, ...groups.flatMap((group) => [group >> 8, group & 0xff])])
}

/** A length of one byte, then the text. */
function counted(text: string): Buffer {
  const bytes = Buffer.from(text)
  if (bytes.length > 255)
    throw new TunnelError('a name, user or password longer than SOCKS5 allows')
  return Buffer.concat([Buffer.from([bytes.length]), bytes])
}
