// Listens in on what clients send to a server: passes bytes on both ways, and keeps the requests' heads.
import { connect, createServer, type Server, type Socket } from 'node:net'
import { pipeline } from 'node:stream/promises'

export class Tap implements AsyncDisposable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #sent: Buffer[][] = []

  private constructor(port: number) {
    this.#server = createServer((client) => this.#pass(client, connect(port, '127.0.0.1')))
  }

  /** In front of the server at this loopback port; clients must send no bodies. */
  static async listen(port: number): Promise<Tap> {
    const tap = new Tap(port)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    tap.#server.once('error', reject).listen(0, '127.0.0.1', resolve)
    await promise
    return tap
  }

  /** "127.0.0.1:34567" */
  get host(): string {
    const address = this.#server.address()
    return typeof address === 'object' && address ? `127.0.0.1:${address.port}` : ''
  }

  /** The head of every request so far, by connection. */
  get heads(): string[] {
    const texts = this.#sent.map((parts) => Buffer.concat(parts).toString('latin1'))
    return texts.flatMap((text) => text.split('\r\n\r\n').filter((head) => head !== ''))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await Promise.resolve()
  }

  #pass(client: Socket, server: Socket): void {
    const sent: Buffer[] = []
    this.#sent.push(sent)
    client.on('data', (bytes: Buffer) => sent.push(bytes))
    for (const socket of [client, server]) {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    }
    // Who ends a connection in the middle ends both halves: pipeline destroys what is left.
    pipeline(client, server, client).catch(() => {})
  }
}
