// One request with its reply, and the record of it for the access log and the metrics. Answers are sent by
// Fastify, through `respond`; only blobs write their bodies themselves, after `writeHead`.
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { OciError } from '../oci/errors.ts'
import { type CacheOutcome, type CacheState, formatCacheStatus } from '../http/cache-status.ts'
import type { RequestKind, RequestRecord, RequestObserver } from './observer.ts'

/** nginx's status for a client that left before there was an answer. */
const CLIENT_CLOSED_REQUEST = 499

type Headers = Record<string, string | number>

export class Exchange implements RequestRecord {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly id: string
  readonly method: string
  readonly path: string
  /** The raw query string, without the question mark. */
  readonly query: string
  /** The host asked for: one in the request target overrides the Host header (RFC 9112 3.2.2). */
  readonly host: string | undefined
  readonly client: string | undefined
  kind: RequestKind = 'other'
  registry: string | undefined
  repository: string | undefined
  reference: string | undefined
  cache: CacheState | undefined
  /** Body bytes handed to the kernel so far. */
  bytes = 0
  seconds = 0
  aborted = false
  failure: string | undefined
  message: string | undefined
  readonly #startedAt = performance.now()
  readonly #reply: FastifyReply
  readonly #observer: RequestObserver
  /** The length of the body, or 0 if it is not known. */
  #length = 0
  /** The length of a body that Fastify sends in one write. */
  #documentLength = 0
  #gone: AbortController | undefined
  #impatience: AbortController | undefined
  #over = false

  constructor(request: FastifyRequest, reply: FastifyReply, observer: RequestObserver) {
    const { raw: req } = request
    this.req = req
    this.res = reply.raw
    this.#reply = reply
    this.id = request.id
    this.#observer = observer
    this.method = req.method ?? ''
    const { authority, rest: url } = readTarget(request.originalUrl)
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

  /** The status sent, or 499 if the client left before there was an answer. */
  get status(): number {
    return this.res.headersSent ? this.res.statusCode : CLIENT_CLOSED_REQUEST
  }

  /** Body bytes that the kernel has not taken yet, as far as the length of the body is known. */
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

  /** Fires when the server is about to cut responses: a head that waits for its first byte goes out now. */
  get impatience(): AbortSignal {
    this.#impatience ??= new AbortController()
    return this.#impatience.signal
  }

  hurry(): void {
    this.#impatience?.abort()
  }

  /** Returns a request header. Several lines count as one list; Node already joins most of them. */
  header(name: string): string | undefined {
    const value = this.req.headers[name]
    return Array.isArray(value) ? value.join(', ') : value
  }

  /**
   * Records how the cache handled the request and returns the headers that say so: Cache-Status, and Age
   * if the upstream was not asked.
   */
  cacheHeaders(outcome: CacheOutcome): Headers {
    this.cache = outcome.state
    const { ageSeconds } = outcome
    const headers: Headers = { 'cache-status': formatCacheStatus(outcome) }
    if (ageSeconds !== undefined) headers['age'] = ageSeconds
    return headers
  }

  /** Sends a whole response. The answer to a HEAD has the length of the body that it leaves out. */
  respond(status: number, headers: Headers, body?: Buffer): void {
    const reply = this.#reply
    if (reply.sent) return // refused at the end of the server; the record keeps that status
    try {
      reply.code(status).headers(this.#withCommon(headers)).send(body)
    } catch (error) {
      // A header value was illegal: nothing was sent, and the error response must not inherit it.
      for (const name in reply.getHeaders()) reply.removeHeader(name)
      throw error
    }
    if (body === undefined || this.isHead) return
    this.#length = this.#documentLength = body.length
  }

  /** Begins a response whose body the caller writes to `res`. Fastify has no more to do with it. */
  writeHead(status: number, headers: Headers): void {
    this.res.writeHead(status, this.#withCommon(headers))
    this.#reply.hijack()
    this.#length = Number(headers['content-length'] ?? 0)
  }

  /** Closes the connection without an answer, or in the middle of one. */
  cut(): void {
    this.#reply.hijack()
    this.res.destroy()
  }

  /**
   * Answers with 503 at the end of the server: a client can act on that, and not on a cut connection.
   * Returns false if the response has already begun.
   */
  refuseUnlessBegun(): boolean {
    if (this.res.headersSent) return false
    const headers = { 'retry-after': '5' }
    const message = 'the server is shutting down: try again'
    this.#reply.send(new OciError('UNAVAILABLE', message, { headers }))
    return true
  }

  #withCommon(headers: Headers): Headers {
    headers['docker-distribution-api-version'] = 'registry/2.0'
    headers['x-request-id'] = this.id
    return headers
  }

  // Not Fastify's onResponse and onRequestAbort: they miss responses that were cut and pipelined
  // requests whose turn never came. The response of such a request has no 'close' of its own.
  #watchEnd(): void {
    const end = () => this.#end()
    this.res.once('close', end)
    if (this.res.socket === null) this.req.socket.once('close', end)
  }

  #end(): void {
    if (this.#over) return
    this.#over = true
    this.aborted = !this.res.writableFinished
    if (!this.aborted) this.bytes += this.#documentLength
    this.seconds = (performance.now() - this.#startedAt) / 1000
    if (this.aborted) this.#gone?.abort()
    this.#observer.requestFinished(this)
  }
}

/** Splits a request target into the authority, if it is in absolute form, and path with query. */
function readTarget(target: string): { authority?: string; rest: string } {
  const named = /^https?:\/\/([^/?#]*)/i.exec(target)
  if (named === null) return { rest: target }
  const [prefix, authority = ''] = named
  // User information before an @ is not part of the host.
  return { authority: authority.replace(/^.*@/, ''), rest: target.slice(prefix.length) || '/' }
}
