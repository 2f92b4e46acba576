// A connector for a pool whose connections go through a proxy.
import { isIP } from 'node:net'
import type { LookupFunction } from 'node:net'
import { callbackify } from 'node:util'
import { buildConnector } from 'undici'

import { attemptTimeoutMs } from '../timeouts.ts'
import { TunnelError } from './tunnel-error.ts'
import { openTunnel } from './tunnel.ts'
import type { Proxy } from './egress-proxy.ts'
import type { TlsState } from '../tls.ts'

type Connector = buildConnector.connector

export interface ProxyConnectorOptions {
  readonly proxy: Proxy
  /** Of the proxy's own name. */
  readonly lookup: LookupFunction
  /** For each of: the connection to the proxy, its answer, and TLS with whom it leads to. */
  readonly timeoutMs: number
  /** Where to lead instead of the name: the operator's own address for it. */
  readonly address?: string | undefined
  /** With the proxy itself, where that speaks TLS. */
  readonly tls?: TlsState | undefined
}

/** The connection to the proxy alone: for plain HTTP, which it forwards request by request. */
export function toProxy(options: ProxyConnectorOptions): Connector {
  const { proxy, lookup, timeoutMs, tls } = options
  const dial = buildConnector({
    allowH2: false,
    timeout: timeoutMs,
    lookup,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: attemptTimeoutMs(timeoutMs),
    ...(tls && { secureContext: tls.context, rejectUnauthorized: tls.verify }),
  })
  const { scheme, hostname } = proxy
  const protocol = scheme === 'https' ? 'https:' : 'http:'
  const servername = isIP(hostname) === 0 ? hostname : ''
  const at = { hostname, host: hostname, protocol, port: String(proxy.port), servername }
  return (_target, callback) => {
    dial(at, (...[error, socket]) => {
      if (error === null) callback(null, socket)
      else callback(unreachable(proxy, error), null)
    })
  }
}

/** A tunnel through the proxy; `secure` makes TLS inside it. */
export function throughProxy(options: ProxyConnectorOptions, secure: Connector): Connector {
  const { proxy, address, timeoutMs } = options
  const dial = toProxy(options)
  const open = callbackify(openTunnel)
  return (target, callback) => {
    const isTls = target.protocol === 'https:'
    const port = Number(target.port === '' ? (isTls ? 443 : 80) : target.port)
    const to = { hostname: address ?? target.hostname.replace(/^\[|\]$/g, ''), port }
    dial(target, (...[error, socket]) => {
      if (error !== null) return callback(error, null)
      open(socket, proxy, to, timeoutMs, (failure: Error | null) => {
        if (failure !== null) callback(failure, null)
        else if (isTls) secure({ ...target, httpSocket: socket }, callback)
        else callback(null, socket)
      })
    })
  }
}

function unreachable({ origin }: Proxy, error: Error): TunnelError {
  const code = 'code' in error ? String(error.code) : error.message
  const timedOut = code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT'
  const what = `no connection to the proxy ${origin} (${code})`
  return new TunnelError(what, { cause: error, timedOut })
}
