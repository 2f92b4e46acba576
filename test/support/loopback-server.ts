// A node:http(s) server on a loopback port that can be stopped at once, whatever its clients do,
// and started again on the same port.
import { createServer, type RequestListener } from 'node:http'
import { createSecureServer } from 'node:http2'
import { createServer as createTlsServer } from 'node:https'
import type { Server, Socket } from 'node:net'
import type { TlsOptions, TLSSocket } from 'node:tls'

const MAX_HEADER_BYTES = 64 * 1024

export interface LoopbackOptions {
  /** The host to listen on, and the name in `url`. Default: 127.0.0.1. */
  readonly host?: string
  /** Default: a free port. */
  readonly port?: number
  /** Serves HTTPS with these; plain HTTP without. */
  readonly tls?: TlsOptions
  /** With `tls`: offers h2 and then HTTP/1.1 by ALPN. */
  readonly http2?: boolean
}

export class LoopbackServer {
  readonly #server: Server
  readonly #name: string
  readonly #scheme: string
  readonly #sockets = new Set<Socket>()
  #port: number
  /** Connections accepted since the start. */
  accepted = 0
  /** The protocol that each TLS connection negotiated by ALPN, in order; false if none. */
  readonly protocols: (string | false | null)[] = []

  private constructor(listener: RequestListener, options: LoopbackOptions) {
    this.#server = createFor(listener, options)
    this.#scheme = options.tls ? 'https' : 'http'
    this.#name = options.host ?? '127.0.0.1'
    this.#port = options.port ?? 0
    this.#server.on('connection', (socket: Socket) => this.#track(socket))
    this.#server.on('secureConnection', ({ alpnProtocol }: TLSSocket) => {
      this.protocols.push(alpnProtocol)
    })
  }

  static async listen(
    listener: RequestListener,
    options: LoopbackOptions,
  ): Promise<LoopbackServer> {
    const server = new LoopbackServer(listener, options)
    await server.start()
    return server
  }

  /** "127.0.0.1:34567" */
  get host(): string {
    return `${this.#name.includes(':') ? `[${this.#name}]` : this.#name}:${this.#port}`
  }

  /** "http://127.0.0.1:34567", without a slash at the end. */
  get url(): string {
    return `${this.#scheme}://${this.host}`
  }

  get port(): number {
    return this.#port
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sockets.size
  }

  /** Starts to listen. After a stop it uses the same port again. */
  async start(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#server.once('error', reject)
    this.#server.listen(this.#port, this.#name, resolve)
    await promise
    this.#server.off('error', reject)
    const address = this.#server.address()
    if (typeof address === 'object' && address) this.#port = address.port
  }

  /** Stops listening and cuts every connection. Safe to call twice. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#server.close(() => resolve())
    for (const socket of this.#sockets) socket.destroy()
    await promise
  }

  #track(socket: Socket): void {
    this.accepted++
    this.#sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => this.#sockets.delete(socket))
  }
}

function createFor(listener: RequestListener, { tls, http2 = false }: LoopbackOptions): Server {
  const http = { maxHeaderSize: MAX_HEADER_BYTES }
  if (!tls) return createServer(http, listener)
  if (!http2) return createTlsServer({ ...http, ...tls }, listener)
  // The HTTP/2 server's requests and responses are compatible with those of HTTP/1.1.
  const server = createSecureServer({ ...tls, allowHTTP1: true })
  server.on('request', listener as never)
  return server
}
