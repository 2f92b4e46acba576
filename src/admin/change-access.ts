// Decides who may change state through the admin port: clients with the token, and local clients. A web
// page in a local browser (CSRF, DNS rebinding) and a request through a local proxy do not count as local.
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'

/** Returns the current token, or undefined if there is none. A rejection counts as no token. */
export type AdminToken = () => Promise<string | undefined>

export interface Refusal {
  readonly status: 401
  readonly headers: Readonly<Record<string, string>>
  readonly message: string
}

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8)
LOOPBACK.addAddress('::1', 'ipv6')

const BEARER = /^Bearer +(\S+) *$/i
/** Headers that a browser adds to a page's requests, and headers that a proxy adds. */
const NOT_LOCAL = ['origin', 'sec-fetch-site', 'forwarded', 'x-forwarded-for', 'via'] as const

/** Returns why a request may not change anything, or undefined if it may. */
export async function refusalOf(
  request: Pick<IncomingMessage, 'headers' | 'socket'>,
  token: AdminToken = async () => undefined,
): Promise<Refusal | undefined> {
  const { authorization } = request.headers
  if (authorization !== undefined) {
    const given = BEARER.exec(authorization)?.[1] ?? ''
    // A token file that cannot be read must not grant access, and the client is not told about it.
    const wanted = await token().catch(() => undefined)
    if (wanted !== undefined && wanted !== '' && isEqual(given, wanted)) return undefined
    return refusal('the token is not the one in admin.token')
  }
  if (isLocal(request)) return undefined
  return refusal('this needs the token in admin.token, or a request from the same machine')
}

function isLocal({ headers, socket }: Pick<IncomingMessage, 'headers' | 'socket'>): boolean {
  if (NOT_LOCAL.some((name) => headers[name] !== undefined)) return false
  return isLoopback(socket.remoteAddress ?? '') && isLocalName(headers.host ?? '')
}

/** Any name can be made to resolve to this machine (DNS rebinding); an address cannot be faked that way. */
function isLocalName(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  return name.toLowerCase() === 'localhost' || isIP(name) !== 0
}

function isLoopback(address: string): boolean {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '')
  const family = isIP(plain)
  return family !== 0 && LOOPBACK.check(plain, family === 6 ? 'ipv6' : 'ipv4')
}

/** Compares in constant time. */
function isEqual(given: string, wanted: string): boolean {
  const [one, other] = [given, wanted].map((text) => createHash('sha256').update(text).digest())
  return one !== undefined && other !== undefined && timingSafeEqual(one, other)
}

function refusal(message: string): Refusal {
  return { status: 401, headers: { 'www-authenticate': 'Bearer realm="chandlery"' }, message }
}
