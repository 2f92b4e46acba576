// The HTTP or HTTPS server below the app.
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { answerConnect } from './connect-method.ts'
import type { TlsKeyPair } from './tls-key-pair.ts'

export interface ListenerOptions {
  /** HTTPS with this pair, which may be replaced while it serves; else HTTP. */
  readonly tls?: TlsKeyPair | undefined
  /** The head of a request has to arrive within so many milliseconds, its body in twice that. Default 60 s. */
  readonly arrivalMs?: number | undefined
}

/** podman asks for up to 1,024 ranges in one header of about 20 KiB; Node's default is 16 KiB. */
const MAX_HEADER_BYTES = 64 * 1024

const ARRIVAL_MS = 60_000

const HTTP_OPTIONS = {
  maxHeaderSize: MAX_HEADER_BYTES,
  keepAliveTimeout: 75_000, // longer than what usual balancers and clients keep one
  noDelay: true,
  requireHostHeader: false, // the app refuses it, in the words of a registry
}

export function createListener(handler: RequestListener, options: ListenerOptions = {}): Server {
  const { tls } = options
  const http = { ...HTTP_OPTIONS, ...arrivalLimits(options.arrivalMs ?? ARRIVAL_MS) }
  if (tls === undefined) return anyRequest(createHttpServer(http, handler), handler)
  const server = createHttpsServer({ ...http, ...tls.current }, handler)
  tls.serve(server)
  return anyRequest(server, handler)
}

// Responses are not limited by it, and a request has no body that matters.
function arrivalLimits(ms: number) {
  return { headersTimeout: ms, requestTimeout: 2 * ms, connectionsCheckingInterval: ms / 2 }
}

/**
 * What Node does not hand over as a request. An Expect that it does not know it answers with 417 and no
 * body; it may be ignored (RFC 9110 10.1.1). Who waits for a 100 gets the answer itself, after which
 * Node closes: no body is wanted.
 */
function anyRequest(server: Server, handler: RequestListener): Server {
  server.on('connect', answerConnect(handler))
  server.on('checkContinue', handler)
  return server.on('checkExpectation', handler)
}
