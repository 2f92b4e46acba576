// The connections of a server and what runs on them, so that they can be ended in order: no request is
// left without its answer, and no answer is lost to a reset (RFC 9112 9.6). When each step is due,
// drain.ts knows.
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Exchange } from './exchange.ts'
import type { RequestRecord } from './observer.ts'

/** What a client still sends is read and dropped for so long, or our end would be a reset to it. */
const LINGER_MS = 1_000

/** What became of the responses that ran when time was up. */
export interface Cut {
  /** Cut in the middle. */
  readonly responses: number
  /** What their clients still lack, as far as it is known. */
  readonly missingBytes: number
  /** Not begun: answered with 503. */
  readonly refused: number
}

/** One connection on which requests can come. */
interface Line {
  /** Requests that were read and are not answered to their end. */
  busy: number
  idleSinceMs: number
  /** Of the socket when it was last looked at: a request may be on its way. */
  bytesRead: number
  ended: boolean
}

export class Connections {
  readonly #servers: Server[] = []
  /** Below TLS, handshakes included. */
  readonly #sockets = new Set<Socket>()
  readonly #lines = new Map<Socket, Line>()
  readonly #running = new Map<RequestRecord, Exchange>()
  #isLast = false
  #isOver = false

  /** Knows every connection of the server from here on, and alone closes idle ones. */
  watch(server: Server): Server {
    this.#servers.push(server)
    const isTls = 'setSecureContext' in server
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
      if (this.#isOver) socket.destroy()
      else if (!isTls) this.#opened(socket)
    })
    server.on('secureConnection', (socket: Socket) => this.#opened(socket))
    // Node's own, which close() calls, resets what a client has just sent.
    server.closeIdleConnections = () => {}
    return server
  }

  /** Responses that run. */
  get running(): number {
    return this.#running.size
  }

  /** Nothing runs, and no request can come any more. */
  get isQuiet(): boolean {
    return this.#running.size === 0 && [...this.#lines.values()].every(({ ended }) => ended)
  }

  /** What runs has begun its answers, and no request can come any more but on their connections. */
  get isSettled(): boolean {
    const isBegun = [...this.#running.values()].every(({ res }) => res.headersSent)
    return isBegun && [...this.#lines.values()].every(({ busy, ended }) => busy > 0 || ended)
  }

  /** False: its connection was closed by us, nobody will read an answer. */
  began(exchange: Exchange): boolean {
    const line = this.#lines.get(exchange.req.socket)
    if (line?.ended) return false
    if (line) line.busy += 1
    this.#running.set(exchange, exchange)
    if (this.#isLast) this.#last(exchange)
    return true
  }

  ended(record: RequestRecord): void {
    const exchange = this.#running.get(record)
    if (!exchange) return
    this.#running.delete(record)
    const line = this.#lines.get(exchange.req.socket)
    if (!line) return
    line.busy -= 1
    line.idleSinceMs = performance.now()
    line.bytesRead = exchange.req.socket.bytesRead
  }

  /** From now on every response is the last of its connection, and says so. */
  endReuse(): void {
    this.#isLast = true
    for (const exchange of this.#running.values()) this.#last(exchange)
  }

  /** Lets nobody new in. Idleness counts from here: a request may be on its way at this moment. */
  stopListening(): void {
    this.endReuse()
    const nowMs = performance.now()
    for (const line of this.#lines.values()) line.idleSinceMs = nowMs
    for (const server of this.#servers) server.close()
  }

  /** Closes what has been idle for so long: whoever sent a request in this moment is asked to wait. */
  closeIdle(afterMs: number): void {
    const nowMs = performance.now()
    for (const [socket, line] of this.#lines) {
      if (line.busy > 0 || line.ended) continue
      if (socket.bytesRead !== line.bytesRead) {
        line.bytesRead = socket.bytesRead
        line.idleSinceMs = nowMs
      }
      if (nowMs - line.idleSinceMs >= afterMs) this.#end(socket, line)
    }
  }

  /** What is about to be cut gets its head if it can: a client goes on after half a body, not after a 503. */
  hurry(): void {
    for (const exchange of this.#running.values()) exchange.hurry()
  }

  /** Ends what runs: 503 where nothing was said yet, else in the middle. No connection is taken any more. */
  cut(): Cut {
    this.#isOver = true
    let [responses, missingBytes, refused] = [0, 0, 0]
    for (const exchange of this.#running.values()) {
      if (exchange.refuseUnlessBegun()) {
        refused += 1
      } else {
        responses += 1
        missingBytes += exchange.missingBytes
        exchange.res.destroy()
      }
    }
    this.closeIdle(0)
    return { responses, missingBytes, refused }
  }

  /** Resolves when all are closed; those whose clients do not let go are destroyed. */
  async closed(): Promise<void> {
    this.#isOver = true
    const destroyAll = () => this.#sockets.forEach((socket) => socket.destroy())
    const timer = setTimeout(destroyAll, LINGER_MS)
    // A handshake that is not over has no request to lose.
    if (this.#lines.size === 0) destroyAll()
    await Promise.all([...this.#sockets].map(untilClosed))
    clearTimeout(timer)
  }

  #opened(socket: Socket): void {
    if (this.#isOver) {
      socket.destroy()
      return
    }
    const { bytesRead } = socket
    const line = { busy: 0, idleSinceMs: performance.now(), bytesRead, ended: false }
    this.#lines.set(socket, line)
    socket.once('close', () => this.#lines.delete(socket))
  }

  #last({ req, res }: Exchange): void {
    const { socket } = req
    const line = this.#lines.get(socket)
    if (res.headersSent || !line) return
    res.setHeader('connection', 'close')
    // What Node calls after such a response would reset the connection where the client has sent more.
    socket.destroySoon = () => this.#end(socket, line)
  }

  // Our side only: what is on its way to us is read until the client has seen it.
  #end(socket: Socket, line: Line): void {
    if (line.ended) return
    line.ended = true
    socket.end()
    const timer = setTimeout(() => socket.destroy(), LINGER_MS)
    socket.once('close', () => clearTimeout(timer))
  }
}

function untilClosed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve()
    else socket.once('close', () => resolve())
  })
}
