// A node:http(s) server on a loopback port that can be stopped at once, whatever its clients do, and
// started again on the same port.
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Socket } from 'node:net'
import type { TlsOptions } from 'node:tls'

const MAX_HEADER_BYTES = 64 * 1024

export interface LoopbackOptions {
  /** The name in `url`; what is listened on too. Default 127.0.0.1. */
  readonly host?: string
  /** Default: any free port. */
  readonly port?: number
  /** Serve HTTPS with these; plain HTTP without. */
  readonly tls?: TlsOptions
}

export class LoopbackServer {
  readonly #server
  readonly #name: string
  readonly #scheme: string
  readonly #sockets = new Set<Socket>()
  #port: number
  /** Connections accepted since the start. */
  accepted = 0

  private constructor(listener: RequestListener, options: LoopbackOptions) {
    const http = { maxHeaderSize: MAX_HEADER_BYTES }
    this.#server = options.tls
      ? createTlsServer({ ...http, ...options.tls }, listener)
      : createServer(http, listener)
    this.#scheme = options.tls ? 'https' : 'http'
    this.#name = options.host ?? '127.0.0.1'
    this.#port = options.port ?? 0
    this.#server.on('connection', (socket: Socket) => this.#track(socket))
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

  /** Connections open now. */
  get connections(): number {
    return this.#sockets.size
  }

  /** Listens (again, on the port of the first time). */
  async start(): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#server.once('error', reject)
    this.#server.listen(this.#port, this.#name, resolve)
    await promise
    this.#server.off('error', reject)
    const address = this.#server.address()
    if (typeof address === 'object' && address) this.#port = address.port
  }

  /** Stops listening and cuts every connection. Stopped already = done. */
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
