// An HTTP/1.1 client on a bare socket, for what fetch does not do: read slowly, leave early, send
// exact header lines, and see whether a response ends too early.
import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls, type ConnectionOptions } from 'node:tls'

const MAX_HEADER_BYTES = 64 * 1024

export interface RawRequest {
  readonly method?: string
  /** Sent unchanged and in this order, after Host. */
  readonly headers?: Readonly<Record<string, string>> | readonly (readonly [string, string])[]
  readonly body?: string | Uint8Array
  /** For an https URL. */
  readonly tls?: ConnectionOptions
  /** The Host header; default: the URL's. */
  readonly host?: string
}

/** The bytes of a body, and how it ended. */
export interface RawBody {
  readonly bytes: Buffer
  /** True if the whole body arrived, by its Content-Length or its last chunk. */
  readonly complete: boolean
}

/** A response whose body is read only as the test asks for it. */
export class RawResponse implements Disposable {
  readonly status: number
  readonly headers: Headers
  readonly #socket: Socket
  readonly #input: ByteReader
  readonly #bodiless: boolean
  #left: number

  constructor(head: string, socket: Socket, input: ByteReader, method: string) {
    const [first = '', ...lines] = head.split('\r\n')
    this.status = Number(first.split(' ')[1])
    this.headers = new Headers()
    for (const line of lines) {
      const colon = line.indexOf(':')
      if (colon > 0) this.headers.append(line.slice(0, colon), line.slice(colon + 1).trim())
    }
    this.#socket = socket
    this.#input = input
    this.#bodiless = method === 'HEAD' || this.status === 204 || this.status === 304
    this.#left = Number(this.headers.get('content-length') ?? NaN)
  }

  /** Reads `length` bytes of the body, without chunk framing. Fewer only at its end. */
  async read(length: number): Promise<Buffer> {
    if (this.#bodiless) return Buffer.alloc(0)
    if (this.headers.get('transfer-encoding') === 'chunked') {
      throw new Error('read() needs Content-Length; use body() for a chunked answer')
    }
    const wanted = Number.isNaN(this.#left) ? length : Math.min(length, this.#left)
    const bytes = await this.#input.read(wanted)
    this.#left -= bytes.length
    return bytes
  }

  /** Reads the rest of the body and tells whether it is complete. */
  async body(): Promise<RawBody> {
    if (this.#bodiless) return { bytes: Buffer.alloc(0), complete: true }
    if (this.headers.get('transfer-encoding') === 'chunked') return await this.#chunked()
    const bytes = await this.read(Infinity)
    return { bytes, complete: Number.isNaN(this.#left) ? !this.#input.failed : this.#left === 0 }
  }

  /** Stops reading: the kernel's buffers fill, and the server has to wait. */
  pause(): void {
    this.#input.pause()
  }

  /** Destroys the connection. */
  leave(): void {
    this.#socket.destroy()
  }

  [Symbol.dispose](): void {
    this.leave()
  }

  async #chunked(): Promise<RawBody> {
    const parts: Buffer[] = []
    while (true) {
      const line = await this.#input.readLine()
      const size = line === undefined ? NaN : Number.parseInt(line, 16)
      if (Number.isNaN(size)) return { bytes: Buffer.concat(parts), complete: false }
      if (size === 0) return { bytes: Buffer.concat(parts), complete: true }
      const part = await this.#input.read(size)
      parts.push(part)
      if (part.length < size) return { bytes: Buffer.concat(parts), complete: false }
      await this.#input.readLine()
    }
  }
}

// Reads a socket on demand, never more than requested.
class ByteReader {
  readonly #socket: Socket
  #ended = false
  #wake: (() => void) | undefined
  /** True if the connection was reset rather than closed. */
  failed = false

  constructor(socket: Socket) {
    this.#socket = socket
    const wake = () => this.#wake?.()
    const end = () => {
      this.#ended = true
      wake()
    }
    socket.on('readable', wake)
    socket.on('end', end)
    socket.on('close', end)
    socket.on('error', () => {
      this.failed = true
      end()
    })
  }

  pause(): void {
    this.#socket.pause()
  }

  async read(length: number): Promise<Buffer> {
    const parts: Buffer[] = []
    let have = 0
    while (have < length) {
      const part = await this.#some(length - have)
      if (!part) break
      parts.push(part)
      have += part.length
    }
    return Buffer.concat(parts, have)
  }

  /** Reads a line, without its line break. Returns undefined if the connection ends first. */
  async readLine(): Promise<string | undefined> {
    const text = await this.readUntil('\r\n')
    return text?.slice(0, -2)
  }

  async readUntil(mark: string): Promise<string | undefined> {
    let text = ''
    while (!text.endsWith(mark)) {
      const byte = await this.#some(1)
      if (!byte || text.length > MAX_HEADER_BYTES) return undefined
      text += byte.toString('latin1')
    }
    return text
  }

  async #some(most: number): Promise<Buffer | undefined> {
    while (true) {
      const { readableLength } = this.#socket
      // read() with an empty buffer makes the socket read more, and emit 'end' if it has ended.
      const wanted = readableLength > 0 ? Math.min(most, readableLength) : undefined
      const bytes: Buffer | null = this.#socket.read(wanted)
      if (bytes && bytes.length > most) this.#socket.unshift(bytes.subarray(most))
      if (bytes) return bytes.subarray(0, most)
      if (this.#ended) return undefined
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#wake = resolve
      await promise
    }
  }
}

/** Sends one request on a new connection and resolves when the headers have arrived. */
export async function rawRequest(
  url: string | URL,
  options: RawRequest = {},
): Promise<RawResponse> {
  const target = new URL(url)
  const socket = open(target, options.tls)
  const input = new ByteReader(socket)
  const method = options.method ?? 'GET'
  const given = Array.isArray(options.headers)
    ? options.headers
    : Object.entries(options.headers ?? {})
  const lines = given.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  const host = options.host ?? target.host
  // Take the path from the string if possible: URL would resolve dot segments and escapes.
  const path = /^https?:\/\/[^/]+(\/.*)$/.exec(String(url))?.[1] ?? target.pathname
  socket.write(`${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${lines}\r\n`)
  if (options.body !== undefined) socket.write(options.body)
  const head = await input.readUntil('\r\n\r\n')
  if (head === undefined) {
    socket.destroy()
    throw new Error(`the connection to ${target.host} ended before the headers`)
  }
  return new RawResponse(head, socket, input, method)
}

function open(target: URL, tls: ConnectionOptions | undefined): Socket {
  const host = target.hostname.replace(/^\[|\]$/g, '')
  const secure = target.protocol === 'https:'
  const port = Number(target.port || (secure ? 443 : 80))
  if (!secure) return connect({ host, port })
  // An address is not allowed as a server name (RFC 6066, 3). The certificate is still checked
  // against it.
  return connectTls({ host, port, ...(isIP(host) ? {} : { servername: host }), ...tls })
}
