// One request and its response, and what is told of them afterwards. Not an answer: the routes write
// that, through `respond` or, for blobs, by themselves after `writeHead`.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { errorBody, OciError } from '../oci/errors.ts'
import { type CacheOutcome, type CacheState, formatCacheStatus } from '../http/cache-status.ts'
import type { RequestKind, RequestRecord, RequestObserver } from './observer.ts'

const CLIENT_CLOSED_REQUEST = 499

export class Exchange implements RequestRecord {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly id: string
  readonly method: string
  readonly path: string
  /** Without the question mark. */
  readonly query: string
  /** Which host is asked: a target that names one counts more than the header (RFC 9112 3.2.2). */
  readonly host: string | undefined
  readonly client: string | undefined
  kind: RequestKind = 'other'
  registry: string | undefined
  repository: string | undefined
  reference: string | undefined
  cache: CacheState | undefined
  /** Of the body: what a sender has handed to the kernel so far. */
  bytes = 0
  seconds = 0
  aborted = false
  failure: string | undefined
  message: string | undefined
  readonly #startedAt = performance.now()
  /** What the body will be, where it is known. */
  #length = 0
  readonly #observer: RequestObserver
  #gone: AbortController | undefined
  /** Of a response that goes out at once, or not at all. */
  #single = 0
  #impatience: AbortController | undefined
  #over = false

  constructor(req: IncomingMessage, res: ServerResponse, id: string, observer: RequestObserver) {
    this.req = req
    this.res = res
    this.id = id
    this.#observer = observer
    this.method = req.method ?? ''
    const { authority, rest: url } = readTarget(req.url ?? '')
    this.host = authority ?? req.headers.host
    const mark = url.indexOf('?')
    this.path = mark === -1 ? url : url.slice(0, mark)
    this.query = mark === -1 ? '' : url.slice(mark + 1)
    this.client = req.socket.remoteAddress
    observer.requestStarted()
    this.#watchEnd()
  }

  get isHead(): boolean {
    return this.method === 'HEAD'
  }

  /** Whether the client can tell where a body of unknown length ends (RFC 9112 7.1). */
  get canChunk(): boolean {
    const { httpVersionMajor: major, httpVersionMinor: minor } = this.req
    return major > 1 || (major === 1 && minor >= 1)
  }

  /** 499, as nginx has it, where the client left before there was an answer. */
  get status(): number {
    return this.res.headersSent ? this.res.statusCode : CLIENT_CLOSED_REQUEST
  }

  /** Of the body, what the kernel has not taken yet. */
  get missingBytes(): number {
    return Math.max(0, this.#length - this.bytes)
  }

  get userAgent(): string | undefined {
    return this.req.headers['user-agent']
  }

  /** Fires when the connection has closed before the response was complete. */
  get gone(): AbortSignal {
    this.#gone ??= new AbortController()
    if (this.aborted) this.#gone.abort()
    return this.#gone.signal
  }

  /** Fires when the server is about to end: what can be said of the answer is to be said now. */
  get impatience(): AbortSignal {
    this.#impatience ??= new AbortController()
    return this.#impatience.signal
  }

  hurry(): void {
    this.#impatience?.abort()
  }

  /** A header of which several lines count as one list; Node joins all but a few by itself. */
  header(name: string): string | undefined {
    const value = this.req.headers[name]
    return Array.isArray(value) ? value.join(', ') : value
  }

  /** Notes how the cache handled it and returns the Cache-Status value that says so. */
  cacheStatus(outcome: CacheOutcome): string {
    this.cache = outcome.state
    return formatCacheStatus(outcome)
  }

  /** What every response carries, before anything about the content. */
  writeHead(status: number, headers: OutgoingHttpHeaders): void {
    headers['docker-distribution-api-version'] = 'registry/2.0'
    headers['x-request-id'] = this.id
    this.#length = Number(headers['content-length'] ?? 0)
    this.res.writeHead(status, headers)
  }

  /** A whole response at once. A HEAD gets the same head, with the length of the body it leaves out. */
  respond(status: number, headers: OutgoingHttpHeaders, body?: Buffer): void {
    if (body) headers['content-length'] = body.length
    this.writeHead(status, headers)
    if (body === undefined || this.isHead) {
      this.res.end()
    } else {
      this.#single = body.length
      this.res.end(body)
    }
  }

  /** For the end of the server: whoever got nothing yet is better told than cut. False: it has begun. */
  refuseUnlessBegun(): boolean {
    if (this.res.headersSent) return false
    const told = new OciError('UNAVAILABLE', 'the server is shutting down: ask again')
    this.failure = told.code
    this.message = told.message
    const headers = { 'content-type': 'application/json', 'retry-after': '5', ...told.headers }
    this.respond(told.status, headers, errorBody(told))
    return true
  }

  // A pipelined response whose turn never came has no 'close' of its own when the connection closes.
  #watchEnd(): void {
    const end = () => this.#end()
    this.res.once('close', end)
    if (this.res.socket === null) this.req.socket.once('close', end)
  }

  #end(): void {
    if (this.#over) return
    this.#over = true
    this.aborted = !this.res.writableFinished
    if (!this.aborted) this.bytes += this.#single
    this.seconds = (performance.now() - this.#startedAt) / 1000
    if (this.aborted) this.#gone?.abort()
    this.#observer.requestFinished(this)
  }
}

/** The host that a target names, if it does, and its path and query. */
function readTarget(target: string): { authority?: string; rest: string } {
  const named = /^https?:\/\/([^/?#]*)/i.exec(target)
  if (named === null) return { rest: target }
  const [prefix, authority = ''] = named
  // Whatever stands before an @ is no host.
  return { authority: authority.replace(/^.*@/, ''), rest: target.slice(prefix.length) || '/' }
}
