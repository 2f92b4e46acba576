// The second host that registries redirect blobs to: signed, expiring URLs, and 400 for a request
// that carries Authorization, as S3, GCS and Azure answer (they reject two kinds of authentication
// at once).
import { createHmac, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { parseDigest, type Digest } from '../../src/oci/digest.ts'
import type { TestContent } from './content.ts'
import { Faults, type ActiveFault, type Fault } from './faults.ts'
import { LoopbackServer, type LoopbackOptions } from './loopback-server.ts'
import { answer, rangedAnswer, respond, type Answer } from './responder.ts'

export interface StorageHostOptions extends LoopbackOptions {
  /** How long a signed URL is valid. Default: one minute. */
  readonly lifetimeMs?: number
  /** Whether Range is honoured. Default: true. */
  readonly ranges?: boolean
  /** Signs URLs for GET only, so that HEAD is refused. Default: false. */
  readonly getOnly?: boolean
}

export interface StorageRequest {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly digest?: Digest | undefined
  status: number
  /** Body bytes handed to the kernel. */
  bytes: number
  /** True if the whole response was sent. */
  finished: boolean
}

export class TestStorageHost implements AsyncDisposable {
  readonly requests: StorageRequest[] = []
  readonly #options: StorageHostOptions
  readonly #secret = randomBytes(16)
  readonly #faults = new Faults()
  readonly #content = new Map<Digest, TestContent>()
  #server!: LoopbackServer

  constructor(options: StorageHostOptions) {
    this.#options = options
  }

  async listen(): Promise<void> {
    const listener = (request: IncomingMessage, response: ServerResponse) => {
      void this.#serve(request, response)
    }
    this.#server = await LoopbackServer.listen(listener, this.#options)
  }

  get url(): string {
    return this.#server.url
  }

  get host(): string {
    return this.#server.host
  }

  /** Connections accepted so far. */
  get accepted(): number {
    return this.#server.accepted
  }

  /** Returns a URL of this content, which expires. */
  signedUrl(digest: Digest, content: TestContent): string {
    this.#content.set(digest, content)
    const expires = Date.now() + (this.#options.lifetimeMs ?? 60_000)
    const path = `/bucket/${digest.replace(':', '/')}`
    return `${this.url}${path}?Expires=${expires}&Signature=${this.#sign(path, String(expires))}`
  }

  /** Returns the body bytes of this content that were sent, over all requests. */
  bytesSent(digest: Digest): number {
    return this.requests.filter((r) => r.digest === digest).reduce((sum, r) => sum + r.bytes, 0)
  }

  fault(fault: Fault): ActiveFault {
    return this.#faults.add(fault)
  }

  clearFaults(): void {
    this.#faults.clear()
  }

  /** Stops listening and cuts all connections. `start` listens on the same port again. */
  async stop(): Promise<void> {
    await this.#server.stop()
  }

  async start(): Promise<void> {
    await this.#server.start()
  }

  async close(): Promise<void> {
    await this.#server.stop()
    this.#faults.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = request.method ?? 'GET'
    const url = request.url ?? '/'
    const digest = digestOf(url)
    const { headers } = request
    const record: StorageRequest = {
      method,
      url,
      headers,
      digest,
      status: 0,
      bytes: 0,
      finished: false,
    }
    this.requests.push(record)
    const refused = this.#refusal(request)
    const active = refused ? undefined : this.#faults.take({ kind: 'blob', method, digest })
    const planned = refused ?? this.#contentAnswer(request, digest, active?.fault.ignoreRange)
    await respond(response, planned, method === 'HEAD', record, active)
  }

  #refusal(request: IncomingMessage): Answer | undefined {
    const url = new URL(request.url ?? '/', this.url)
    const expires = url.searchParams.get('Expires') ?? ''
    if (request.headers.authorization !== undefined) return refusal(400, 'InvalidArgument')
    if (url.searchParams.get('Signature') !== this.#sign(url.pathname, expires)) {
      return refusal(403, 'SignatureDoesNotMatch')
    }
    if (Number(expires) < Date.now()) return refusal(403, 'AccessDenied')
    if (this.#options.getOnly && request.method !== 'GET') return refusal(403, 'AccessDenied')
    return undefined
  }

  #contentAnswer(
    request: IncomingMessage,
    digest: Digest | undefined,
    ignoreRange = false,
  ): Answer {
    const content = digest && this.#content.get(digest)
    if (!content) return refusal(404, 'NoSuchKey')
    const ranges = this.#options.ranges !== false && !ignoreRange && request.method === 'GET'
    const headers = {
      'content-type': 'application/octet-stream',
      'accept-ranges': ranges ? 'bytes' : 'none',
    }
    return rangedAnswer(content, ranges ? request.headers.range : undefined, headers)
  }

  #sign(path: string, expires: string): string {
    return createHmac('sha256', this.#secret).update(`${path}\n${expires}`).digest('hex')
  }
}

function digestOf(url: string): Digest | undefined {
  const [, algorithm, encoded] = /^\/bucket\/(\w+)\/(\w+)/.exec(url) ?? []
  return parseDigest(`${algorithm}:${encoded}`)
}

function refusal(status: number, code: string): Answer {
  const body = `<?xml version="1.0"?><Error><Code>${code}</Code></Error>`
  return answer(status, body, { 'content-type': 'application/xml' })
}

/** Starts a storage host, for a registry's `redirectBlobs` or a fault's `redirect`. */
export async function startStorageHost(options: StorageHostOptions = {}): Promise<TestStorageHost> {
  const host = new TestStorageHost(options)
  await host.listen()
  return host
}
