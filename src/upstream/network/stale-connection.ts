// Whether an exchange broke off because its kept connection had been closed. Pure.
import { errors } from 'undici'

const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'])

/** Reports whether GET and HEAD may be sent again: a kept connection ended before any answer. */
export function isStaleConnection(error: unknown): boolean {
  // A server that sent a body to HEAD leaves it on the connection, where the next answer should be.
  if (error instanceof errors.HTTPParserError) return true
  if (error instanceof errors.SocketError && error.socket?.bytesRead === 0) return false
  return error instanceof Error && 'code' in error && CLOSED.has(String(error.code))
}
