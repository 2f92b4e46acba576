// Tracks the connections of a server and the requests running on them, and closes them in order: no
// request goes unanswered, and no answer is lost to a reset (RFC 9112 9.6). drain.ts decides when each
// step is due.
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Exchange } from './exchange.ts'
import type { RequestRecord } from './observer.ts'

/** How long we discard what a client sends after we have closed our side: closing at once would send a reset. */
const LINGER_MS = 1_000
/** A kept connection on which nothing arrived during this many checks has no request on its way. */
const QUIET_CHECKS = 3
/** How long a new connection, or one with an incomplete request, is given after its last byte. */
const AWAITED_MS = 1_000
/** The most turns of the event loop that closing the listener is put off while clients still connect. */
const MAX_TURNS = 100

/** What happened to the responses that were still running when the time was up. */
export interface Cut {
  /** Responses cut in the middle. */
  readonly responses: number
  /** Body bytes that their clients did not get, as far as the lengths are known. */
  readonly missingBytes: number
  /** Requests answered with 503 because no response had begun. */
  readonly refused: number
}

// `_parent`, undocumented in Node, is the socket below a TLS socket.
type SecureSocket = Socket & { readonly _parent?: Socket | null }

/** The state of one connection, or of a TLS handshake that will become one. */
interface ConnectionState {
  /** Requests that were read and whose responses are not complete. */
  busy: number
  /** Its first request, or the rest of one, is on its way. Clients do not retry such a request elsewhere. */
  isAwaited: boolean
  /** The socket's `bytesRead` when it last grew, and when that was. */
  bytesRead: number
  activeAtMs: number
  /** The number of checks since then. */
  checks: number
  ended: boolean
}

export class Connections {
  readonly #servers: Server[] = []
  /** The TCP sockets, including those in a TLS handshake. */
  readonly #sockets = new Set<Socket>()
  readonly #states = new Map<Socket, ConnectionState>()
  readonly #running = new Map<RequestRecord, Exchange>()
  /** The number of connections opened so far. */
  #opened = 0
  #isLast = false
  #isClosed = false
  #isOver = false

  /** Tracks every connection of the server from now on. Idle ones are closed only by this class. */
  watch(server: Server): Server {
    this.#servers.push(server)
    server.on('connection', (socket: Socket) => {
      this.#opened += 1
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
      this.#add(socket)
    })
    server.on('secureConnection', (socket: SecureSocket) => {
      if (socket._parent) this.#states.delete(socket._parent) // the handshake is over
      this.#add(socket)
    })
    // server.close() calls this, and Node's version would reset connections with unread requests.
    server.closeIdleConnections = () => {}
    return server
  }

  /** The number of responses that are running. */
  get running(): number {
    return this.#running.size
  }

  /** Whether nothing is running and no request can arrive any more. */
  get isQuiet(): boolean {
    return this.#running.size === 0 && [...this.#states.values()].every(({ ended }) => ended)
  }

  /** Whether all running responses have begun and no request can arrive except on their connections. */
  get isSettled(): boolean {
    const isBegun = [...this.#running.values()].every(({ res }) => res.headersSent)
    return isBegun && [...this.#states.values()].every(({ busy, ended }) => busy > 0 || ended)
  }

  /** Returns false if we have closed the connection: nobody would read an answer. */
  began(exchange: Exchange): boolean {
    const state = this.#states.get(exchange.req.socket)
    if (state?.ended || this.#isClosed) return false
    if (state) state.busy += 1
    this.#running.set(exchange, exchange)
    if (this.#isLast) this.#makeLast(exchange)
    return true
  }

  ended(record: RequestRecord): void {
    const exchange = this.#running.get(record)
    if (!exchange) return
    this.#running.delete(record)
    const state = this.#states.get(exchange.req.socket)
    if (!state) return
    state.busy -= 1
    state.isAwaited = false
    this.#noteActivity(exchange.req.socket, state)
    if (this.#isClosed && state.busy === 0) this.#end(exchange.req.socket, state)
  }

  /** From now on every response is the last one of its connection and carries `Connection: close`. */
  endReuse(): void {
    this.#isLast = true
    for (const exchange of this.#running.values()) this.#makeLast(exchange)
  }

  /**
   * Takes no more requests; for when `isSettled`. A connection whose response began before it could say
   * `Connection: close` is closed right after it: clients retry elsewhere after that, but not after a 503.
   */
  closeRequests(): void {
    this.#isClosed = true
  }

  /** Closes the listener once the accept queue seems empty: connections left in it would be reset. */
  async stopListening(): Promise<void> {
    this.endReuse()
    for (let turns = 0; turns < MAX_TURNS; turns += 1) {
      const before = this.#opened
      await nextTurn()
      if (turns > 0 && this.#opened === before) break
    }
    for (const server of this.#servers) server.close()
  }

  /**
   * Closes the connections on which no request is expected. Call it repeatedly, each time in a turn of
   * the event loop of its own, so that what has arrived is read in between, however busy the loop is.
   */
  closeIdle(): void {
    for (const [socket, state] of this.#states) {
      if (state.busy > 0 || state.ended) continue
      if (socket.bytesRead > state.bytesRead) {
        state.isAwaited = true
        this.#noteActivity(socket, state)
      }
      state.checks += 1
      const waitedMs = performance.now() - state.activeAtMs
      if (state.checks > QUIET_CHECKS && (!state.isAwaited || waitedMs >= AWAITED_MS))
        this.#end(socket, state)
    }
  }

  /** Has heads that wait for a first byte sent before the cut: clients resume after half a body, not after a 503. */
  hurry(): void {
    for (const exchange of this.#running.values()) exchange.hurry()
  }

  /** Ends what runs, with 503 if the response has not begun. New connections are destroyed from now on. */
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
    for (const [socket, state] of this.#states) if (state.busy === 0) this.#end(socket, state)
    return { responses, missingBytes, refused }
  }

  /** Resolves when all connections are closed. After LINGER_MS the remaining ones are destroyed. */
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
    const state = { busy: 0, isAwaited: true, bytesRead: 0, activeAtMs: 0, checks: 0, ended: false }
    this.#noteActivity(socket, state)
    this.#states.set(socket, state)
    socket.once('close', () => this.#states.delete(socket))
  }

  #noteActivity(socket: Socket, state: ConnectionState): void {
    state.bytesRead = socket.bytesRead
    state.activeAtMs = performance.now()
    state.checks = 0
  }

  #makeLast({ req, res }: Exchange): void {
    const { socket } = req
    const state = this.#states.get(socket)
    if (res.headersSent || !state) return
    res.setHeader('connection', 'close')
    // Node calls this after such a response; its version resets the connection if the client sent more.
    socket.destroySoon = () => this.#end(socket, state)
  }

  // Closes our side only, and goes on reading until the client has noticed.
  #end(socket: Socket, state: ConnectionState): void {
    if (state.ended) return
    state.ended = true
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
