// Which proxy a host is reached through: what the configuration says, else HTTP_PROXY, HTTPS_PROXY
// and NO_PROXY as Go and curl read them. Pure.
import { isIP } from 'node:net'

import { addressClass, withinNetwork } from '../../address/addresses.ts'
import { isLoopback } from '../../address/private-host.ts'
import { hiddenId, IDENTITY } from '../settings-id.ts'

const SCHEMES = ['http', 'https', 'socks5'] as const

/** Where a tunnel leads: a name that the proxy resolves, or an address. */
export interface Destination {
  readonly hostname: string
  readonly port: number
}

/** A proxy; whatever prints it sees no password. */
export class Proxy {
  readonly scheme: (typeof SCHEMES)[number]
  /** Without brackets. */
  readonly hostname: string
  readonly port: number
  readonly #username: string
  readonly #password: string

  /** `text`: scheme://[user:password@]host[:port]; without a scheme http. Throws ProxyError. */
  constructor(text: string) {
    const url = parse(text)
    const scheme = url.protocol.replace(/^socks(5h)?:$/, 'socks5:').slice(0, -1)
    const known = SCHEMES.find((each) => each === scheme)
    if (known === undefined) throw new ProxyError(`${url.protocol} is no scheme of a proxy`)
    if (url.hostname === '') throw new ProxyError('names no host')
    if (!['', '/'].includes(url.pathname) || url.search !== '' || url.hash !== '') {
      throw new ProxyError('has something behind its port')
    }
    this.scheme = known
    this.hostname = url.hostname.replace(/^\[|\]$/g, '')
    this.port = url.port === '' ? DEFAULT_PORTS[known] : Number(url.port)
    this.#username = decode(url.username)
    this.#password = decode(url.password)
  }

  /** "proxy.example.com:3128": its key in `configs`. */
  get host(): string {
    const host = this.hostname.includes(':') ? `[${this.hostname}]` : this.hostname
    return `${host}:${this.port}`
  }

  /** "http://proxy.example.com:3128": for messages and keys. */
  get origin(): string {
    return `${this.scheme}://${this.host}`
  }

  /** Undefined: it wants none. Not for logs. */
  get credential(): { readonly username: string; readonly password: string } | undefined {
    if (this.#username === '' && this.#password === '') return undefined
    return { username: this.#username, password: this.#password }
  }

  toString(): string {
    return this.credential === undefined ? this.origin : this.origin.replace('//', '//<redacted>@')
  }

  toJSON(): string {
    return this.toString()
  }

  [IDENTITY](): string {
    return `${this.origin} ${hiddenId(JSON.stringify([this.#username, this.#password]))}`
  }
}

/** What was written is no proxy; the message does not repeat it. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError'
}

const DEFAULT_PORTS = { http: 80, https: 443, socks5: 1080 } as const

function parse(text: string): URL {
  const whole = text.includes('://') ? text : `http://${text}`
  // Only what WHATWG calls special has hosts that are normalised.
  const url = URL.canParse(whole) ? new URL(whole) : undefined
  if (url === undefined) throw new ProxyError('is no URL')
  return url
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

// The environment.

export interface ProxyEnvironment {
  readonly http: FromEnvironment | undefined
  readonly https: FromEnvironment | undefined
  readonly except: readonly string[]
}

interface FromEnvironment {
  readonly proxy: Proxy
  /** The variable. */
  readonly from: string
}

export const NO_PROXIES: ProxyEnvironment = { http: undefined, https: undefined, except: [] }

/**
 * Reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in lower case first. Throws ProxyError.
 */
export function proxiesOf(env: Readonly<Record<string, string | undefined>>): ProxyEnvironment {
  const read = (...names: string[]) => {
    const both = names.flatMap((name) => [name.toLowerCase(), name])
    const from = both.find((each) => env[each] !== undefined && env[each] !== '') ?? ''
    return { from, value: env[from]?.trim() ?? '' }
  }
  const proxy = (...names: string[]) => {
    const { from, value } = read(...names)
    try {
      return value === '' ? undefined : { proxy: new Proxy(value), from }
    } catch (error) {
      if (error instanceof ProxyError) throw new ProxyError(`${from} ${error.message}`)
      throw error
    }
  }
  return {
    http: proxy('HTTP_PROXY', 'ALL_PROXY'),
    https: proxy('HTTPS_PROXY', 'ALL_PROXY'),
    except: read('NO_PROXY')
      .value.split(/[\s,]+/)
      .filter((entry) => entry !== ''),
  }
}

/**
 * The environment's proxy for a URL, or why it is excepted. Loopback is never reached through one,
 * as Go has it.
 */
export function environmentProxy(
  url: URL,
  environment: ProxyEnvironment,
): { readonly proxy?: Proxy; readonly from?: string } {
  const found = url.protocol === 'https:' ? environment.https : environment.http
  if (found === undefined) return {}
  if (isLoopback(url.hostname)) return { from: 'localhost' }
  const isExcepted = environment.except.some((entry) => excepts(entry.toLowerCase(), url))
  return isExcepted ? { from: 'NO_PROXY' } : found
}

/**
 * An entry of NO_PROXY: "*", a network, an address, a domain (with its subdomains, or ".only"
 * them), each with or without a port.
 */
function excepts(entry: string, url: URL): boolean {
  if (entry === '*') return true
  const hostname = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port
  if (entry.includes('/'))
    return addressClass(hostname) !== undefined && withinNetwork(hostname, entry)
  const [, host = '', wanted] = /^(\[.*\]|[^:]*|.*:.*:[^:]*?)(?::(\d+))?$/.exec(entry) ?? []
  if (wanted !== undefined && wanted !== port) return false
  const name = (isIP(entry) === 0 ? host : entry).replace(/^\[|\]$/g, '').replace(/^\*(?=\.)/, '')
  if (name.startsWith('.')) return hostname.endsWith(name)
  return hostname === name || (isIP(hostname) === 0 && hostname.endsWith(`.${name}`))
}
