// Who may change state on the admin port: who is on this machine, or has the token. A page in a
// browser there is neither (CSRF, DNS rebinding), nor is who comes through a proxy there.
import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'

/** The token as it is now; undefined: there is none. May reject: then there is none either. */
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
/** What a browser adds, whatever the page wants, and what a proxy adds. */
const NOT_FROM_HERE = ['origin', 'sec-fetch-site', 'forwarded', 'x-forwarded-for', 'via'] as const

/** Why a request may change nothing; undefined: it may. */
export async function refusalOf(
  request: Pick<IncomingMessage, 'headers' | 'socket'>,
  token: AdminToken = async () => undefined,
): Promise<Refusal | undefined> {
  const { authorization } = request.headers
  if (authorization !== undefined) {
    const given = BEARER.exec(authorization)?.[1] ?? ''
    // An unreadable file must not open the door, nor say why it stays closed.
    const wanted = await token().catch(() => undefined)
    if (wanted !== undefined && wanted !== '' && isEqual(given, wanted)) return undefined
    return refusal('the token is not that of admin.token')
  }
  if (isFromHere(request)) return undefined
  return refusal('this needs the token of admin.token, or a request from this very machine')
}

function isFromHere({ headers, socket }: Pick<IncomingMessage, 'headers' | 'socket'>): boolean {
  if (NOT_FROM_HERE.some((name) => headers[name] !== undefined)) return false
  return isLoopback(socket.remoteAddress ?? '') && isLocalName(headers.host ?? '')
}

/** A name could be anybody's that resolves to us; an address is what the client connected to. */
function isLocalName(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  return name.toLowerCase() === 'localhost' || isIP(name) !== 0
}

function isLoopback(address: string): boolean {
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '')
  const family = isIP(plain)
  return family !== 0 && LOOPBACK.check(plain, family === 6 ? 'ipv6' : 'ipv4')
}

/** In a time that tells nothing of how much is right. */
function isEqual(given: string, wanted: string): boolean {
  const [one, other] = [given, wanted].map((text) => createHash('sha256').update(text).digest())
  return one !== undefined && other !== undefined && timingSafeEqual(one, other)
}

function refusal(message: string): Refusal {
  return { status: 401, headers: { 'www-authenticate': 'Bearer realm="chandlery"' }, message }
}
