// Whether an exchange broke because its kept connection was closed meanwhile: pure.
import { errors } from 'undici'

const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET'])

/** True before any answer came: GET and HEAD may be sent again. Not if the connection was new. */
export function isStaleConnection(error: unknown): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  if (error instanceof errors.SocketError && error.socket?.bytesRead === 0) return false
  return typeof error.code === 'string' && CLOSED.has(error.code)
}
