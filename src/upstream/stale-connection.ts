// Whether an exchange broke because its kept connection was closed meanwhile: pure.
import { errors } from 'undici'

const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'])

/** True before any answer came: GET and HEAD may be sent again. Not if the connection was new. */
export function isStaleConnection(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  if (error instanceof errors.SocketError && error.socket?.bytesRead === 0) return false
  if (typeof error.code !== 'string') return false
  // A server that sent a body to HEAD leaves it on the connection, where the next answer should be.
  return CLOSED.has(error.code) || error.code === 'HPE_INVALID_CONSTANT'
}
