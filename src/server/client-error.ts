// Connections on which no request can be read: TLS on the plain port, plain HTTP on the TLS port,
// headers without end. They get a 400 where one can still be written, and are closed at once.
import { STATUS_CODES, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { errorBody } from '../oci/errors.ts'

interface ConnectionError extends Error {
  readonly code: string
  /** What could not be parsed: a Buffer. */
  readonly rawPacket: unknown
}

// Node's own, undocumented links: the response under way on a socket, and the socket below TLS.
type Connection = Socket & {
  readonly _httpMessage?: ServerResponse | null
  readonly _parent?: Socket | null
}

const TLS_HANDSHAKE = 0x16

/** For Node's `clientError`, which also carries failed handshakes of a TLS server. */
export function answerClientError(error: ConnectionError, connection: Connection): void {
  const socket = error.code === 'ERR_SSL_HTTP_REQUEST' ? connection._parent : connection
  const midResponse = connection._httpMessage?.headersSent === true
  if (!socket?.writable || midResponse || error.code === 'ECONNRESET') {
    connection.destroy()
    return
  }
  const { status, message } = explain(error)
  const body = errorBody({ code: 'UNSUPPORTED', message })
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    'Connection: close',
  ]
  socket.end(Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body]))
  socket.destroySoon()
  if (socket !== connection) connection.destroy()
}

function explain(error: ConnectionError): { status: number; message: string } {
  switch (error.code) {
    case 'ERR_SSL_HTTP_REQUEST':
      return { status: 400, message: 'plain HTTP was sent to an HTTPS port: use https://' }
    case 'HPE_HEADER_OVERFLOW':
      // Not 431: podman gives up on that, but asks for fewer ranges after a 400.
      return { status: 400, message: 'the request header is too large' }
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return { status: 408, message: 'the request did not arrive in time' }
    default:
      return { status: 400, message: describeBytes(error.rawPacket) }
  }
}

function describeBytes(bytes: unknown): string {
  return bytes instanceof Uint8Array && bytes[0] === TLS_HANDSHAKE
    ? 'TLS was sent to a plain HTTP port: use http://'
    : 'this is no HTTP request that can be read'
}
