// Creates the HTTP or HTTPS server that the Fastify application runs on.
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { answerConnect } from './connect-method.ts'
import type { TlsKeyPair } from './tls-key-pair.ts'

export interface ListenerOptions {
  /** Serves HTTPS with this pair, which may be replaced while the server runs. Without it, HTTP. */
  readonly tls?: TlsKeyPair | undefined
  /** How long the head of a request may take to arrive, in milliseconds; the whole request twice that. Default 60 s. */
  readonly arrivalMs?: number | undefined
}

/** podman sends up to 1,024 ranges in one header of about 20 KiB; Node's default is 16 KiB. */
const MAX_HEADER_BYTES = 64 * 1024

const ARRIVAL_MS = 60_000

const HTTP_OPTIONS = {
  maxHeaderSize: MAX_HEADER_BYTES,
  keepAliveTimeout: 75_000, // longer than common load balancers and clients keep a connection
  noDelay: true,
  requireHostHeader: false, // the app refuses such requests with an OCI error
}

export function createListener(handler: RequestListener, options: ListenerOptions = {}): Server {
  const { tls } = options
  const http = { ...HTTP_OPTIONS, ...arrivalLimits(options.arrivalMs ?? ARRIVAL_MS) }
  if (tls === undefined) return anyRequest(createHttpServer(http, handler), handler)
  const server = createHttpsServer({ ...http, ...tls.current }, handler)
  tls.serve(server)
  return anyRequest(server, handler)
}

// These limit requests only. Responses may take as long as they need.
function arrivalLimits(ms: number) {
  return { headersTimeout: ms, requestTimeout: 2 * ms, connectionsCheckingInterval: ms / 2 }
}

/**
 * Passes on what Node would not emit as a request. Node answers an unknown Expect with 417 and no body,
 * but it may be ignored (RFC 9110 10.1.1). A client that waits for 100 Continue gets the final answer, and
 * Node closes the connection: the body is not wanted.
 */
function anyRequest(server: Server, handler: RequestListener): Server {
  server.on('connect', answerConnect(handler))
  server.on('checkContinue', handler)
  return server.on('checkExpectation', handler)
}
