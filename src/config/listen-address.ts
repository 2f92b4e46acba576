// Addresses to listen on: `host:port`, `:port`, `[v6]:port`.
import { isIP, isIPv6 } from 'node:net'
import { quote, ValueError } from './value-error.ts'

/** An address to listen on. Without a host it is every address; port 0 is any free port. */
export interface ListenAddress {
  readonly host: string | undefined
  readonly port: number
}

const ADDRESS = /^(?:\[(?<six>[^[\]]*)\]|(?<host>[^:[\]]*)):(?<port>\d{1,5})$/

/** Reads `0.0.0.0:5000`, `:5000`, `[::1]:5000`, `localhost:5000`; throws ValueError. */
export function parseListenAddress(text: string): ListenAddress {
  const { six, host, port } = ADDRESS.exec(text)?.groups ?? {}
  if (port === undefined) throw wrong(text, hint(text))
  if (Number(port) > 65_535) throw wrong(text, 'a port is at most 65535')
  if (six !== undefined && !isIPv6(six)) throw wrong(text, 'brackets hold an IPv6 address')
  if (host && !isIP(host) && !isHostName(host))
    throw wrong(text, `${quote(host)} is not a host name`)
  return { host: six ?? (host || undefined), port: Number(port) }
}

/** Returns the address as a string that parseListenAddress reads back. */
export function formatListenAddress({ host = '', port }: ListenAddress): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * Reports whether the text is a host name: letters, digits, `-`, `_` and `.`. Digits and dots alone
 * are not a host name but a misspelt IPv4 address.
 */
export function isHostName(text: string): boolean {
  if (text.length > 253 || /^[\d.]+$/.test(text)) return false
  return text.split('.').every((label) => /^(?!-)[A-Za-z0-9_-]{1,63}(?<!-)$/.test(label))
}

function hint(text: string): string {
  if (/^\d{1,5}$/.test(text)) return `write ":${text}" to listen on every address`
  if (text.includes('://')) return 'leave out the scheme'
  if (isIPv6(text.replace(/:\d+$/, '')) || isIPv6(text)) return 'write IPv6 as [::1]:5000'
  return 'write host:port, such as 0.0.0.0:5000, :5000 or [::1]:5000'
}

function wrong(text: string, why: string): ValueError {
  return new ValueError(`${quote(text)} is not an address to listen on; ${why}`)
}
