// A token server (distribution's token specification, GET and OAuth2 POST) that enforces the rules
// of its options and records the requests. It is strict by default, as ghcr.io and Huawei SWR are:
// it refuses a request with any unknown or forbidden scope.
import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { Faults, type ActiveFault, type Fault } from './faults.ts'
import { LoopbackServer, type LoopbackOptions } from './loopback-server.ts'
import { answer, respond } from './responder.ts'

const MAX_FORM_BYTES = 64 * 1024

/** A scope in the form of a token's `access` claim. */
export interface GrantedScope {
  readonly type: string
  readonly name: string
  readonly actions: readonly string[]
}

export interface TokenRequest {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  /** The fields of the query (GET) or of the form (POST), in order. */
  readonly fields: readonly (readonly [string, string])[]
  /** Every requested scope, in order, including those in one space-separated parameter. */
  readonly scopes: readonly string[]
  readonly service: string | undefined
  /** The authenticated user; undefined if anonymous or refused. */
  username: string | undefined
  granted: readonly GrantedScope[]
  status: number
}

export interface TokenServerOptions extends LoopbackOptions {
  /** The required `service`. Default: "test-registry". */
  readonly service?: string
  readonly users?: Readonly<Record<string, string>>
  /** Identity (refresh) tokens and their users. */
  readonly identityTokens?: Readonly<Record<string, string>>
  /** Known repositories and who may pull: everybody or these users. Default: all, everybody. */
  readonly repositories?: Readonly<Record<string, 'anonymous' | readonly string[]>>
  /** Whether an unknown or forbidden scope refuses the request or is left out. Default: true. */
  readonly strict?: boolean
  /** The status with which the strict server refuses. Default: 403. */
  readonly refusedStatus?: number
  /** The methods it accepts; a number is the status of the refusal. Default: both. */
  readonly get?: true | number
  readonly post?: true | number
  /** The fields that contain the token. Default: both, with the same token. */
  readonly respond?: 'token' | 'access_token' | 'both'
  /** The announced lifetime in seconds; 'omit' leaves the field out. Default: 300. */
  readonly expiresIn?: number | 'omit'
  /** How long a token is really valid. Default: as announced, or for ever. */
  readonly lifetimeMs?: number
  /** How many requests a token is valid for. Default: any number. */
  readonly uses?: number
  /** A query that is part of the realm. A request without it is refused with 400. */
  readonly realmQuery?: Readonly<Record<string, string>>
  /**
   * Resets a connection at its second request, as if a middlebox had forgotten it. Default: false.
   */
  readonly forgetsConnections?: boolean
  /** Creates the token, for registries that verify signatures. Default: an opaque one. */
  readonly sign?: (claims: TokenClaims) => string
}

export interface TokenClaims {
  readonly subject: string
  readonly audience: string
  readonly access: readonly GrantedScope[]
  readonly lifetimeSeconds: number
}

interface IssuedToken {
  readonly access: readonly GrantedScope[]
  readonly expiresAt: number
  usesLeft: number
}

class Refusal extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export class TestTokenServer implements AsyncDisposable {
  readonly requests: TokenRequest[] = []
  /** May be changed while it runs. */
  options: TokenServerOptions
  readonly #faults = new Faults()
  readonly #issued = new Map<string, IssuedToken>()
  readonly #used = new WeakSet<Socket>()
  #server!: LoopbackServer

  constructor(options: TokenServerOptions) {
    this.options = options
  }

  async listen(): Promise<void> {
    const listener = (request: IncomingMessage, response: ServerResponse) => {
      void this.#serve(request, response)
    }
    this.#server = await LoopbackServer.listen(listener, this.options)
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

  get service(): string {
    return this.options.service ?? 'test-registry'
  }

  /** The realm for challenges, including its query. */
  get realm(): string {
    const query = new URLSearchParams(this.options.realmQuery).toString()
    return `${this.url}/token${query && `?${query}`}`
  }

  /** Returns the access of a token that is still valid. Registries call this once per request. */
  verify(token: string): readonly GrantedScope[] | undefined {
    const issued = this.#issued.get(token)
    if (issued === undefined || issued.expiresAt <= Date.now()) return undefined
    if (issued.usesLeft === 0) return undefined
    issued.usesLeft -= 1
    return issued.access
  }

  /** Revokes every token issued so far. */
  revokeAll(): void {
    this.#issued.clear()
  }

  /**
   * Sets a fault, as for a registry, as far as it makes sense here. `match` takes method, nth and
   * from.
   */
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
    const { record, status, body } = await this.#answer(request).catch((error: unknown) => ({
      record: undefined,
      status: 400,
      body: { details: String(error) },
    }))
    const { socket } = request
    if (this.options.forgetsConnections === true && this.#used.has(socket)) {
      socket.resetAndDestroy()
      return
    }
    this.#used.add(socket)
    if (record) record.status = status
    const json = { 'content-type': 'application/json', 'cache-control': 'no-store' }
    const planned = answer(status, JSON.stringify(body), json)
    const sent = { status: 0, bytes: 0, finished: false }
    await respond(
      response,
      planned,
      method === 'HEAD',
      sent,
      this.#faults.take({ kind: 'token', method }),
    )
    if (record && sent.status !== 0) record.status = sent.status
  }

  async #answer(request: IncomingMessage) {
    const method = request.method ?? 'GET'
    const url = new URL(request.url ?? '/', this.url)
    const fields = method === 'POST' ? await readForm(request) : url.searchParams
    const scopes = fields
      .getAll('scope')
      .flatMap((scope) => scope.split(' '))
      .filter(Boolean)
    const record: TokenRequest = {
      method,
      url: request.url ?? '/',
      headers: request.headers,
      fields: [...fields],
      scopes,
      service: fields.get('service') ?? undefined,
      username: undefined,
      granted: [],
      status: 0,
    }
    this.requests.push(record)
    try {
      this.#checkShape(method, url, fields)
      record.username = this.#authenticate(request, fields)
      record.granted = this.#grant(scopes, record.username)
      return { record, status: 200, body: this.#issue(record, fields) }
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      return { record, status: error.status, body: { details: error.message } }
    }
  }

  #checkShape(method: string, url: URL, fields: URLSearchParams): void {
    const accepted = method === 'POST' ? this.options.post : this.options.get
    if (typeof accepted === 'number') throw new Refusal(accepted, `${method} is not supported`)
    if (method !== 'POST' && method !== 'GET') throw new Refusal(405, 'GET or POST')
    for (const [name, value] of Object.entries(this.options.realmQuery ?? {})) {
      if (url.searchParams.get(name) !== value)
        throw new Refusal(400, `the realm's ${name} is lost`)
    }
    if (fields.get('service') !== this.service) throw new Refusal(400, 'unknown service')
    if (method === 'POST' && !fields.get('client_id'))
      throw new Refusal(400, 'client_id is required')
  }

  #authenticate(request: IncomingMessage, form: URLSearchParams): string | undefined {
    const grant = request.method === 'POST' ? form.get('grant_type') : undefined
    if (grant === 'password') {
      return this.#login(form.get('username') ?? '', form.get('password') ?? '')
    }
    if (grant === 'refresh_token') {
      const user = this.options.identityTokens?.[form.get('refresh_token') ?? '']
      if (user === undefined) throw new Refusal(401, 'unknown refresh token')
      return user
    }
    if (request.method === 'POST') throw new Refusal(400, 'unsupported grant_type')
    const basic = /^basic (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
    if (request.headers.authorization !== undefined && !basic) throw new Refusal(400, 'Basic only')
    if (!basic) return undefined
    const [user = '', ...password] = Buffer.from(basic, 'base64').toString().split(':')
    return this.#login(user, password.join(':'))
  }

  #login(user: string, password: string): string {
    const expected = this.options.users?.[user]
    if (expected === undefined || expected !== password) throw new Refusal(401, 'wrong credentials')
    return user
  }

  #grant(scopes: readonly string[], user: string | undefined): GrantedScope[] {
    const granted: GrantedScope[] = []
    for (const text of scopes) {
      const scope = parseScope(text)
      const allowed = scope && this.#allows(scope, user)
      if (allowed) granted.push(scope)
      else if (this.options.strict !== false) {
        throw new Refusal(this.options.refusedStatus ?? 403, `denied: ${text}`)
      }
    }
    return granted
  }

  #allows(scope: GrantedScope, user: string | undefined): boolean {
    if (scope.type !== 'repository') return scope.type === 'registry'
    const { repositories } = this.options
    if (!repositories) return true
    const readers = repositories[scope.name]
    if (readers === undefined) return false
    return readers === 'anonymous' || (user !== undefined && readers.includes(user))
  }

  #issue(record: TokenRequest, fields: URLSearchParams): Record<string, unknown> {
    const { expiresIn = 300, sign, lifetimeMs } = this.options
    const fieldNames = this.options.respond ?? 'both'
    const lifetimeSeconds = expiresIn === 'omit' ? 60 : expiresIn
    const claims = {
      subject: record.username ?? '',
      audience: this.service,
      access: record.granted,
      lifetimeSeconds,
    }
    const token = sign ? sign(claims) : `opaque-${randomUUID()}`
    const lifetime = lifetimeMs ?? (expiresIn === 'omit' ? Infinity : expiresIn * 1000)
    this.#issued.set(token, {
      access: record.granted,
      expiresAt: Date.now() + lifetime,
      usesLeft: this.options.uses ?? Infinity,
    })
    const offline =
      fields.get('access_type') === 'offline' || fields.get('offline_token') === 'true'
    const [refresh] =
      Object.entries(this.options.identityTokens ?? {}).find(([, u]) => u === record.username) ?? []
    return {
      ...(fieldNames === 'access_token' ? {} : { token }),
      ...(fieldNames === 'token' ? {} : { access_token: token }),
      ...(expiresIn === 'omit'
        ? {}
        : { expires_in: expiresIn, issued_at: new Date().toISOString() }),
      ...(offline && refresh !== undefined ? { refresh_token: refresh } : {}),
    }
  }
}

/**
 * Parses `type:name:actions`. The name may contain a port, so the first and the last colon count.
 */
export function parseScope(text: string): GrantedScope | undefined {
  const [, type, name, actions] = /^([a-z0-9]+(?:\([a-z0-9]+\))?):(.+):([a-z*,]+)$/.exec(text) ?? []
  if (type === undefined || name === undefined || actions === undefined) return undefined
  return { type, name, actions: actions.split(',') }
}

async function readForm(request: IncomingMessage): Promise<URLSearchParams> {
  const type = request.headers['content-type'] ?? ''
  if (!type.startsWith('application/x-www-form-urlencoded'))
    throw new Error(`a form, not "${type}"`)
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    length += chunk.length
    if (length > MAX_FORM_BYTES) throw new Error('the form is too large')
  }
  return new URLSearchParams(Buffer.concat(chunks).toString())
}

/** Starts a token server, for `startRegistry({ auth: { kind: 'token', tokens } })`. */
export async function startTokenServer(options: TokenServerOptions = {}): Promise<TestTokenServer> {
  const server = new TestTokenServer(options)
  await server.listen()
  return server
}
