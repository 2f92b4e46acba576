// Imitates a Kubernetes Service: one address, whose new connections go to a backend that was ready
// when its /readyz was last polled. An open connection stays with its backend, even if that is no
// longer ready.
import { connect, createServer, type Server, type Socket } from 'node:net'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

const LOOK_EVERY_MS = 50

export interface Backend {
  readonly port: number
  readonly adminUrl: string
}

export interface FrontOptions {
  /**
   * If no backend is ready: refuse, as kube-proxy does, or wait this long, as some load balancers
   * do.
   */
  readonly waitMs: number
}

export class ServiceFront implements AsyncDisposable {
  backends: readonly Backend[] = []
  /** Connections for which no backend was ready. */
  refused = 0
  /** The longest time without a ready backend, in milliseconds. */
  longestGapMs = 0
  readonly #server: Server
  readonly #options: FrontOptions
  readonly #sockets = new Set<Socket>()
  #ready: readonly Backend[] = []
  #gapSinceMs: number | undefined
  #closed = false

  private constructor(server: Server, options: FrontOptions) {
    this.#server = server
    this.#options = options
    server.on('connection', (socket) => void this.#serve(socket))
    void this.#look()
  }

  static async listen(options: FrontOptions): Promise<ServiceFront> {
    const server = createServer({ allowHalfOpen: true })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new ServiceFront(server, options)
  }

  get url(): string {
    const address = this.#server.address()
    const port = typeof address === 'object' && address !== null ? address.port : 0
    return `http://127.0.0.1:${port}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  async #look(): Promise<void> {
    while (!this.#closed) {
      const seen = await Promise.all(
        this.backends.map(async (backend) => ((await isReady(backend)) ? [backend] : [])),
      )
      this.#ready = seen.flat()
      this.#noteGap()
      await sleep(LOOK_EVERY_MS)
    }
  }

  #noteGap(): void {
    const nowMs = performance.now()
    if (this.#ready.length > 0) this.#gapSinceMs = undefined
    else this.#gapSinceMs ??= nowMs
    const gapMs = this.#gapSinceMs === undefined ? 0 : nowMs - this.#gapSinceMs
    this.longestGapMs = Math.max(this.longestGapMs, gapMs)
  }

  async #serve(socket: Socket): Promise<void> {
    this.#keep(socket)
    const untilMs = performance.now() + this.#options.waitMs
    for (;;) {
      const backend = this.#ready[Math.floor(Math.random() * this.#ready.length)]
      const behind = backend && (await opened(backend.port))
      if (behind) return this.#join(socket, behind)
      if (performance.now() >= untilMs || this.#closed) break
      await sleep(LOOK_EVERY_MS / 2)
    }
    this.refused += 1
    socket.resetAndDestroy()
  }

  #join(socket: Socket, behind: Socket): void {
    this.#keep(behind)
    for (const [from, to] of [
      [socket, behind],
      [behind, socket],
    ] as const) {
      from.pipe(to)
      // Pass a reset on as a reset: otherwise the front would hide the failures that it is there to
      // show.
      from.on('error', () => to.resetAndDestroy())
      from.on('close', () => to.destroySoon())
    }
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => this.#sockets.delete(socket))
  }
}

async function isReady({ adminUrl }: Backend): Promise<boolean> {
  try {
    const res = await fetch(`${adminUrl}/readyz`, { signal: AbortSignal.timeout(1000) })
    await res.body?.cancel()
    return res.status === 200
  } catch {
    return false
  }
}

async function opened(port: number): Promise<Socket | undefined> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  try {
    await once(socket, 'connect')
    return socket
  } catch {
    return undefined
  }
}
