// Refuses connections from which no request can be read: TLS on the plain port, plain HTTP on the TLS
// port, oversized headers, silence. The client is told why if anything can still be written, and the
// connection is closed.
import { STATUS_CODES, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { errorBody } from '../oci/errors.ts'
import type { RefusalReason, RefusedConnection } from './observer.ts'

interface ConnectionError extends Error {
  readonly code: string
  /** The bytes that could not be parsed, as a Buffer. */
  readonly rawPacket?: unknown
  /** OpenSSL's description of the error. */
  readonly reason?: unknown
}

// Undocumented links in Node: the current response on a socket, and the socket below a TLS socket.
type Connection = Socket & {
  readonly _httpMessage?: ServerResponse | null
  readonly _parent?: Socket | null
}

interface Refusal {
  readonly reason: RefusalReason
  readonly status: number
  readonly message: string
}

const TLS_HANDSHAKE = 0x16

/** How long a refused client's bytes are still read: a reset could overtake the reason it is told. */
const LINGER_MS = 1000

/** Returns a handler for Node's `clientError` event, which also reports failed TLS handshakes. */
export function refuseConnections(
  refused: (connection: RefusedConnection) => void,
): (error: ConnectionError, connection: Connection) => void {
  const known = new WeakSet<Socket>()
  return (error, connection) => {
    // Bytes that arrive while the connection lingers raise the same error again.
    if (known.has(connection)) return
    known.add(connection)
    const socket = error.code === 'ERR_SSL_HTTP_REQUEST' ? connection._parent : connection
    const told = hasLeft(error) ? undefined : explain(error)
    if (told) {
      const { reason, message } = told
      refused({ reason, message, client: (socket ?? connection).remoteAddress })
    }
    const isMute = told?.reason === 'tls-handshake' || connection._httpMessage?.headersSent === true
    if (told && socket?.writable && !isMute) tell(socket, told, () => connection.destroy())
    else connection.destroy()
  }
}

function hasLeft({ code }: ConnectionError): boolean {
  return code === 'ECONNRESET' || code === 'EPIPE'
}

function tell(socket: Socket, { status, message }: Refusal, close: () => void): void {
  const body = errorBody({ code: 'UNSUPPORTED', message })
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    'Connection: close',
  ]
  socket.end(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body]))
  const timer = setTimeout(close, LINGER_MS)
  socket.once('close', () => {
    clearTimeout(timer)
    close()
  })
}

function explain(error: ConnectionError): Refusal {
  const { code } = error
  switch (code) {
    case 'ERR_SSL_HTTP_REQUEST':
      return refusal('plain-to-tls-port', 'plain HTTP was sent to an HTTPS port: use https://')
    case 'HPE_HEADER_OVERFLOW':
      // Not 431: podman gives up on that, but asks for fewer ranges after a 400.
      return refusal('header-too-large', 'the request header is too large')
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return refusal('timed-out', 'the request did not arrive in time', 408)
    case 'HPE_PAUSED_H2_UPGRADE':
      return refusal('http2', 'HTTP/2 is not supported: use HTTP/1.1')
    case 'HPE_INVALID_EOF_STATE':
      return refusal('malformed', 'the request ended before it was complete')
    default:
      return /^ERR_(SSL|TLS)_/.test(code) ? failedHandshake(error) : malformed(error.rawPacket)
  }
}

function refusal(reason: RefusalReason, message: string, status = 400): Refusal {
  return { reason, message, status }
}

function failedHandshake({ code, reason }: ConnectionError): Refusal {
  const what = typeof reason === 'string' ? reason : code
  return refusal('tls-handshake', `the TLS handshake failed: ${what.slice(0, 200)}`)
}

function malformed(bytes: unknown): Refusal {
  return bytes instanceof Uint8Array && bytes[0] === TLS_HANDSHAKE
    ? refusal('tls-to-plain-port', 'TLS was sent to a plain HTTP port: use http://')
    : refusal('malformed', 'this is not a valid HTTP request')
}
