// The end of a server: no new connections, running responses may finish, then everything is closed.
import type { FastifyInstance } from 'fastify'

const IDLE_CHECK_MS = 50

/** Resolves when the last connection is closed: at the latest `timeoutMs` from now. True: nothing was cut. */
export async function drain(app: FastifyInstance, timeoutMs: number): Promise<boolean> {
  const { server } = app
  let clean = true
  // A connection whose last response ends meanwhile would otherwise stay open for the next request.
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS)
  const end = setTimeout(() => {
    clean = false
    server.closeAllConnections()
  }, timeoutMs)
  try {
    await app.close()
  } finally {
    clearInterval(idle)
    clearTimeout(end)
  }
  return clean
}
