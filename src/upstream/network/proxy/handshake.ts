// What the ways of speaking to a proxy share: the conversation, its end, and how it fails.
import type { Socket } from 'node:net'

import type { Proxy } from './egress-proxy.ts'

/** Where a tunnel leads: a name that the proxy resolves, or an address. */
export interface Destination {
  readonly hostname: string
  readonly port: number
}

/** A proxy cannot be used, or does not lead to the destination; the message holds no secret. */
export class TunnelError extends Error {
  override readonly name = 'TunnelError'
  readonly code = 'CHANDLERY_PROXY'
  /** It was waited for in vain. */
  readonly isLate: boolean

  constructor(message: string, options: { cause?: unknown; isLate?: boolean } = {}) {
    super(message, { cause: options.cause })
    this.isLate = options.isLate ?? false
  }
}

/** One conversation with a proxy. */
export interface Handshake {
  readonly reader: SocketReader
  readonly socket: Socket
  readonly proxy: Proxy
  readonly to: Destination
}

/** Reads a socket by the byte, and leaves in it what is not asked for. */
export class SocketReader {
  readonly #socket: Socket
  #wake: () => void = () => undefined
  #failure: Error | undefined

  constructor(socket: Socket) {
    this.#socket = socket
    socket.on('readable', this.#onReadable)
    socket.on('error', this.#onError)
    socket.on('end', this.#onEnd)
    socket.on('close', this.#onEnd)
  }

  /** Exactly so many bytes. Throws when the connection ends before. */
  async read(bytes: number): Promise<Buffer> {
    for (;;) {
      const chunk: unknown = this.#socket.read(bytes)
      if (Buffer.isBuffer(chunk) && chunk.length === bytes) return chunk
      if (this.#failure !== undefined) throw this.#failure
      await this.#change()
    }
  }

  /** Until `end` has come, that included, at most `maxBytes`. Throws when it does not come. */
  async readUntil(end: string, maxBytes: number): Promise<Buffer> {
    let read = Buffer.alloc(0)
    while (!read.includes(end)) {
      if (read.length >= maxBytes) throw new Error('too long an answer')
      // By the byte: what comes after it belongs to somebody else.
      read = Buffer.concat([read, await this.read(1)])
    }
    return read
  }

  release(): void {
    this.#socket.off('readable', this.#onReadable)
    this.#socket.off('error', this.#onError)
    this.#socket.off('end', this.#onEnd)
    this.#socket.off('close', this.#onEnd)
  }

  #change(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#wake = resolve
    return promise
  }

  readonly #onReadable = (): void => this.#wake()

  readonly #onError = (error: Error): void => {
    this.#failure = error
    this.#wake()
  }

  readonly #onEnd = (): void => {
    this.#failure ??= new Error('closed')
    this.#wake()
  }
}
