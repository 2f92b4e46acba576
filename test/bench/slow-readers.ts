// Clients that ask for a blob and then read a little now and then, for as long as they are let.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

const READ_EVERY_MS = 1000

export class SlowReaders implements AsyncDisposable {
  readonly #sockets: Socket[] = []
  readonly #timer: NodeJS.Timeout
  #bytes = 0

  private constructor() {
    this.#timer = setInterval(() => this.#read(), READ_EVERY_MS)
  }

  /** Resolves when all are connected and have sent their request. */
  static async connect(port: number, path: string, count: number): Promise<SlowReaders> {
    const readers = new SlowReaders()
    for (let each = 0; each < count; each++) {
      const socket = connect({ port, host: '127.0.0.1' })
      await once(socket, 'connect')
      socket.on('error', () => {})
      socket.write(`GET ${path} HTTP/1.1\r\nHost: bench\r\n\r\n`)
      socket.pause()
      readers.#sockets.push(socket)
    }
    return readers
  }

  /** Bytes read by all of them. */
  get bytes(): number {
    return this.#bytes
  }

  /** How many the server has not dropped. */
  get open(): number {
    return this.#sockets.filter((socket) => socket.readable && !socket.destroyed).length
  }

  #read(): void {
    for (const socket of this.#sockets) {
      const chunk: unknown = socket.read()
      if (chunk instanceof Uint8Array) this.#bytes += chunk.length
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    for (const socket of this.#sockets) socket.destroy()
  }
}
