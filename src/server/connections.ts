// The connections of a server and what runs on them, so that they can be ended in order: no request is
// left without its answer, and no answer is lost to a reset (RFC 9112 9.6). When each step is due,
// drain.ts knows.
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Exchange } from './exchange.ts'
import type { RequestRecord } from './observer.ts'

/** What a client still sends is read and dropped for so long, or our end would be a reset to it. */
const LINGER_MS = 1_000
/** A connection that has had an answer and brings nothing for so many looks has no request on its way. */
const QUIET_LOOKS = 3
/** A new connection, or one on which half a request came, is waited for so long after its last byte. */
const AWAITED_MS = 1_000
/** Of the event loop, until the listener closes even where somebody comes in each. */
const MOST_TURNS = 100

/** What became of the responses that ran when time was up. */
export interface Cut {
  /** Cut in the middle. */
  readonly responses: number
  /** What their clients still lack, as far as it is known. */
  readonly missingBytes: number
  /** Not begun: answered with 503. */
  readonly refused: number
}

// Node's own, undocumented link to the socket below TLS.
type SecureSocket = Socket & { readonly _parent?: Socket | null }

/** One connection on which requests can come, or the handshake before them. */
interface Line {
  /** Requests that were read and are not answered to their end. */
  busy: number
  /** Its first request, or the rest of one, is on its way: no client repeats it elsewhere by itself. */
  isAwaited: boolean
  /** Of the socket when something was last seen to have come, and when that was. */
  bytesRead: number
  atMs: number
  /** So many looks since then. */
  looks: number
  ended: boolean
}

export class Connections {
  readonly #servers: Server[] = []
  /** Below TLS, handshakes included. */
  readonly #sockets = new Set<Socket>()
  readonly #lines = new Map<Socket, Line>()
  readonly #running = new Map<RequestRecord, Exchange>()
  /** So many connections so far. */
  #opened = 0
  #isLast = false
  #isClosed = false
  #isOver = false

  /** Knows every connection of the server from here on, and alone closes idle ones. */
  watch(server: Server): Server {
    this.#servers.push(server)
    server.on('connection', (socket: Socket) => {
      this.#opened += 1
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
      this.#add(socket)
    })
    server.on('secureConnection', (socket: SecureSocket) => {
      if (socket._parent) this.#lines.delete(socket._parent) // its handshake is over
      this.#add(socket)
    })
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

  /** False: its connection is ended by us, nobody will read an answer. */
  began(exchange: Exchange): boolean {
    const line = this.#lines.get(exchange.req.socket)
    if (line?.ended || this.#isClosed) return false
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
    line.isAwaited = false
    this.#heard(exchange.req.socket, line)
    if (this.#isClosed && line.busy === 0) this.#end(exchange.req.socket, line)
  }

  /** From now on every response is the last of its connection, and says so. */
  endReuse(): void {
    this.#isLast = true
    for (const exchange of this.#running.values()) this.#last(exchange)
  }

  /**
   * For when all is settled: no request is taken any more. A connection whose answer had begun before it could
   * say that it is the last ends right after it: clients repeat a request elsewhere that meets this, not a 503.
   */
  closeRequests(): void {
    this.#isClosed = true
  }

  /** Lets nobody new in. Who had connected and was not taken yet would be reset: better when nobody is. */
  async stopListening(): Promise<void> {
    this.endReuse()
    for (let turns = 0; turns < MOST_TURNS; turns += 1) {
      const before = this.#opened
      await nextTurn()
      if (turns > 0 && this.#opened === before) break
    }
    for (const server of this.#servers) server.close()
  }

  /**
   * Ends the connections on which no request is to be expected. To be called again and again, each time
   * from a turn of the event loop of its own: what has come is read in between, however late that is.
   */
  closeIdle(): void {
    for (const [socket, line] of this.#lines) {
      if (line.busy > 0 || line.ended) continue
      if (socket.bytesRead > line.bytesRead) {
        line.isAwaited = true
        this.#heard(socket, line)
      }
      line.looks += 1
      const waitedMs = performance.now() - line.atMs
      if (line.looks > QUIET_LOOKS && (!line.isAwaited || waitedMs >= AWAITED_MS))
        this.#end(socket, line)
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
    for (const [socket, line] of this.#lines) if (line.busy === 0) this.#end(socket, line)
    return { responses, missingBytes, refused }
  }

  /** Resolves when all are closed; those whose clients do not let go are destroyed. */
  async closed(): Promise<void> {
    this.#isOver = true
    const destroyAll = () => this.#sockets.forEach((socket) => socket.destroy())
    const timer = setTimeout(destroyAll, LINGER_MS)
    await Promise.all([...this.#sockets].map(untilClosed))
    clearTimeout(timer)
  }

  #add(socket: Socket): void {
    if (this.#isOver) {
      socket.destroy()
      return
    }
    const line = { busy: 0, isAwaited: true, bytesRead: 0, atMs: 0, looks: 0, ended: false }
    this.#heard(socket, line)
    this.#lines.set(socket, line)
    socket.once('close', () => this.#lines.delete(socket))
  }

  #heard(socket: Socket, line: Line): void {
    line.bytesRead = socket.bytesRead
    line.atMs = performance.now()
    line.looks = 0
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
