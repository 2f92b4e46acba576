// Whether an exchange broke because its kept connection was closed meanwhile: pure.
import { errors } from 'undici'

const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'])

/** True before any answer came: GET and HEAD may be sent again. Not if the connection was new. */
export function isStaleConnection(error: unknown): boolean {
  // A server that sent a body to HEAD leaves it on the connection, where the next answer should be.
  if (error instanceof errors.HTTPParserError) return true
  if (error instanceof errors.SocketError && error.socket?.bytesRead === 0) return false
  return error instanceof Error && 'code' in error && CLOSED.has(String(error.code))
}
