// The HTTP or HTTPS server below the app. The certificate's files are looked at every few seconds,
// by content: Kubernetes swaps them through symlinks, which file watching does not see reliably.
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { createSecureContext, type Server as TlsServer } from 'node:tls'
import { answerConnect } from './connect-method.ts'

/** podman asks for up to 1,024 ranges in one header of about 20 KiB; Node's default is 16 KiB. */
const MAX_HEADER_BYTES = 64 * 1024
const LOOK_EVERY_MS = 5_000

export interface KeyPairFiles {
  readonly certFile: string
  readonly keyFile: string
}

export interface ListenerOptions {
  readonly tls?: KeyPairFiles | undefined
  /** How often the files are looked at, in milliseconds. Default 5 s. */
  readonly lookEveryMs?: number | undefined
  readonly onReload?: () => void
  /** The head of a request has to arrive within so many milliseconds, its body in twice that. Default 60 s. */
  readonly arrivalMs?: number | undefined
  /** The new pair cannot be used and the old one stays; told once for each change. */
  readonly onBadPair?: (error: Error) => void
}

interface KeyPair {
  readonly cert: Buffer
  readonly key: Buffer
}

const ARRIVAL_MS = 60_000

const HTTP_OPTIONS = {
  maxHeaderSize: MAX_HEADER_BYTES,
  keepAliveTimeout: 75_000, // longer than what usual balancers and clients keep one
  noDelay: true,
  requireHostHeader: false, // the app refuses it, in the words of a registry
}

/** Throws where the pair cannot be read or does not belong together: better no start than a broken one. */
export function createListener(handler: RequestListener, options: ListenerOptions = {}): Server {
  const { tls } = options
  const http = { ...HTTP_OPTIONS, ...arrivalLimits(options.arrivalMs ?? ARRIVAL_MS) }
  if (tls === undefined) return anyRequest(createHttpServer(http, handler), handler)
  const pair = firstPair(tls)
  const server = createHttpsServer({ ...http, ...pair }, handler)
  anyRequest(server, handler)
  const watch = new PairWatch(server, tls, pair, options)
  server.once('listening', () => watch.start())
  server.once('close', () => watch.stop())
  return server
}

// Responses are not limited by it, and a request has no body that matters.
function arrivalLimits(ms: number) {
  return { headersTimeout: ms, requestTimeout: 2 * ms, connectionsCheckingInterval: ms / 2 }
}

/**
 * What Node does not hand over as a request. An Expect that it does not know it answers with 417 and no
 * body; it may be ignored (RFC 9110 10.1.1). Who waits for a 100 gets the answer itself, after which
 * Node closes: no body is wanted.
 */
function anyRequest(server: Server, handler: RequestListener): Server {
  server.on('connect', answerConnect(handler))
  server.on('checkContinue', handler)
  return server.on('checkExpectation', handler)
}

function firstPair(files: KeyPairFiles): KeyPair {
  try {
    const pair = { cert: readFileSync(files.certFile), key: readFileSync(files.keyFile) }
    createSecureContext(pair)
    return pair
  } catch (error) {
    throw explained(files, error)
  }
}

class PairWatch {
  readonly #server: TlsServer
  readonly #files: KeyPairFiles
  readonly #options: ListenerOptions
  #seen: KeyPair
  #complaint: string | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(server: TlsServer, files: KeyPairFiles, pair: KeyPair, options: ListenerOptions) {
    this.#server = server
    this.#files = files
    this.#seen = pair
    this.#options = options
  }

  start(): void {
    this.#timer = setTimeout(() => void this.#look(), this.#options.lookEveryMs ?? LOOK_EVERY_MS)
    this.#timer.unref()
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  // Certificate and key are two files and may be seen half-way: the next look sees both.
  async #look(): Promise<void> {
    try {
      const { certFile, keyFile } = this.#files
      const pair = { cert: await readFile(certFile), key: await readFile(keyFile) }
      if (!pair.cert.equals(this.#seen.cert) || !pair.key.equals(this.#seen.key)) this.#use(pair)
      this.#complaint = undefined
    } catch (error) {
      this.#complain(explained(this.#files, error))
    }
    if (this.#server.listening) this.start()
  }

  #use(pair: KeyPair): void {
    createSecureContext(pair)
    this.#server.setSecureContext(pair)
    this.#seen = pair
    this.#options.onReload?.()
  }

  #complain(error: Error): void {
    if (this.#complaint === error.message) return
    this.#complaint = error.message
    this.#options.onBadPair?.(error)
  }
}

function explained(files: KeyPairFiles, error: unknown): Error {
  const why = error instanceof Error ? error.message : String(error)
  return new Error(
    `the TLS certificate ${files.certFile} with the key ${files.keyFile} cannot be used: ${why}`,
    { cause: error },
  )
}
