// One place to fetch from: K3s's endpoint normalisation (normalizeEndpointAddress in its
// pkg/agent/containerd), and what a request to it is called. Does no I/O.
import { isIP } from 'node:net'
import { isLoopback } from '../address/private-host.ts'
import type { Rewrite } from './rewrite.ts'

/** An endpoint as a configuration names it. */
export interface EndpointAddress {
  /** `https://mirror.example.com/v2`: for logs and metric labels; no userinfo, no query. */
  readonly key: string
  /** host[:port] as written, so `h:443` is not `h`: the key in `configs`. */
  readonly host: string
  /** The API root, without a trailing slash in its pathname. */
  readonly base: URL
}

export interface Endpoint extends EndpointAddress {
  /** Whether it is the registry's own: then no rewrite applies. */
  readonly isDefault: boolean
  readonly rewrites: readonly Rewrite[]
}

/** An endpoint or registry that cannot be used; the message holds no password. */
export class EndpointError extends Error {
  override readonly name = 'EndpointError'
}

/**
 * Reads an endpoint as K3s does. No scheme means https, but http for loopback with a port other
 * than 443. A path of ``, `/` or `/v2` is `/v2`; any other is the API root as it stands, nothing
 * is appended. docker.io is registry-1.docker.io. Throws EndpointError for what is no http(s) URL
 * and for user names, queries and fragments.
 */
export function normaliseEndpoint(text: string): EndpointAddress {
  const { scheme, host: written, path } = split(text)
  const host = written.toLowerCase() === 'docker.io' ? 'registry-1.docker.io' : written
  const base = parseUrl(`${scheme ?? defaultScheme(host)}://${host}${path}`, text)
  const trimmed = base.pathname.replace(/\/+$/, '')
  base.pathname = trimmed === '' ? '/v2' : trimmed
  const port = /:(\d+)$/.exec(host)?.[1]
  const shown = port === undefined ? base.hostname : `${base.hostname}:${Number(port)}`
  return { key: `${base.protocol}//${shown}${base.pathname}`, host: shown, base }
}

/** The registry's own endpoint. `registry` is host[:port]; throws EndpointError when it is not. */
export function defaultEndpoint(registry: string): Endpoint {
  return { ...normaliseEndpoint(registry), isDefault: true, rewrites: [] }
}

/**
 * What stands between /v2/ and /manifests in a request for `name` (already rewritten) to this
 * endpoint: the name to ask a token for. `https://h/v2/proxy` puts `proxy/` before it; a path
 * without a component `v2` is a root of its own and puts nothing.
 */
export function nameOnWire(endpoint: Pick<Endpoint, 'base'>, name: string): string {
  const components = endpoint.base.pathname.split('/').slice(1)
  const at = components.indexOf('v2')
  return at < 0 ? name : [...components.slice(at + 1), name].join('/')
}

const ENDPOINT =
  /^(?:(?<scheme>[a-z][a-z0-9+.-]*):\/\/)?(?<host>[^/?#]*)(?<path>[^?#]*)(?<rest>.*)$/i
const HOST = /^(?:\[[0-9a-f:.]+\]|[^\s:[\]@\\]+)(?::(?<port>\d{1,5}))?$/i

function split(text: string): { scheme: string | undefined; host: string; path: string } {
  // Blanks, controls and backslashes are what URL parsers drop or turn into something else.
  const parts = /[\s\\\p{Cc}]/u.test(text) ? undefined : ENDPOINT.exec(text)?.groups
  if (parts === undefined) refuse(text, 'is no URL')
  const { scheme, host = '', path = '', rest } = parts
  if (host.includes('@')) refuse(text, 'holds a user name: move it to configs, under auth')
  if (rest !== '') refuse(text, 'holds a query or a fragment: an endpoint has none')
  if (scheme !== undefined && !/^https?$/i.test(scheme)) {
    refuse(text, `has the scheme ${scheme}: http and https are possible`)
  }
  const port = HOST.exec(host)?.groups?.['port']
  if (!HOST.test(host) || (port !== undefined && (Number(port) < 1 || Number(port) > 65_535))) {
    refuse(text, 'has no valid host[:port]')
  }
  return { scheme, host, path }
}

function defaultScheme(host: string): 'http' | 'https' {
  const port = /:(\d+)$/.exec(host)?.[1]
  if (port === undefined || Number(port) === 443) return 'https'
  return isLoopback(host.slice(0, host.lastIndexOf(':'))) ? 'http' : 'https'
}

function parseUrl(url: string, text: string): URL {
  try {
    const parsed = new URL(url)
    // A host of digits is read as an address: 1 would silently become 0.0.0.1.
    if (isIP(parsed.hostname) === 4 && !url.includes(parsed.hostname)) {
      refuse(text, `has an unusual way to write the address ${parsed.hostname}`)
    }
    return parsed
  } catch (error) {
    if (error instanceof EndpointError) throw error
    return refuse(text, 'is no URL')
  }
}

/** What stands before an @ may be a password, also where the rest makes no sense as a URL. */
function refuse(text: string, why: string): never {
  const at = text.lastIndexOf('@')
  const shown = (at < 0 ? text : `…${text.slice(at)}`).replace(/[?#].*$/s, '…').slice(0, 200)
  throw new EndpointError(`endpoint ${JSON.stringify(shown)} ${why} (https://host[:port][/path])`)
}
