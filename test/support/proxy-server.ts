// Proxies for tests on a real socket: HTTP (CONNECT and forwarding) and SOCKS5. The test decides
// where names lead. Every request is recorded.
import { createServer as createHttpServer, request as forward } from 'node:http'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:https'
import type { Duplex } from 'node:stream'
import type { TlsOptions } from 'node:tls'

export interface ProxyOptions {
  /** Maps the requested host:port to the one to connect to. Default: the requested one. */
  readonly leads?: Readonly<Record<string, string>>
  /** The credentials that are required. Default: none. */
  readonly user?: { readonly username: string; readonly password: string }
  /** Speaks TLS with these (HTTP proxy only). */
  readonly tls?: TlsOptions
  /** Accepts connections but never answers. */
  readonly silent?: boolean
}

export interface TestProxy extends AsyncDisposable {
  readonly port: number
  /** The requests so far: "CONNECT host:port" or "GET http://…". */
  readonly requests: string[]
}

/** An HTTP proxy: CONNECT, and requests in absolute form. */
export async function startHttpProxy(options: ProxyOptions = {}): Promise<TestProxy> {
  const requests: string[] = []
  const server = options.tls ? createTlsServer(options.tls) : createHttpServer()
  const isAllowed = (header: string | undefined) => {
    const { user } = options
    const pair = user && Buffer.from(`${user.username}:${user.password}`).toString('base64')
    return pair === undefined || header === `Basic ${pair}`
  }
  server.on('request', (request, response) => {
    requests.push(`${request.method} ${request.url}`)
    if (options.silent === true) return
    if (!isAllowed(request.headers['proxy-authorization'])) {
      response.writeHead(407).end()
      return
    }
    const url = new URL(request.url ?? '')
    const [hostname, port] = split(options.leads?.[url.host] ?? url.host)
    const { method, headers } = request
    const onward = forward({ hostname, port, method, path: url.pathname + url.search, headers })
    onward.on('response', (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers)
      answer.pipe(response)
    })
    onward.on('error', () => response.writeHead(502).end())
    request.pipe(onward)
  })
  server.on('connect', (request, client: Duplex) => {
    requests.push(`CONNECT ${request.url}`)
    if (options.silent === true) return
    client.on('error', () => client.destroy())
    if (!isAllowed(request.headers['proxy-authorization'])) {
      client.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n')
      return
    }
    join(options.leads?.[request.url ?? ''] ?? request.url ?? '', client, {
      opened: () => client.write('HTTP/1.1 200 Connection Established\r\nVia: test\r\n\r\n'),
      failed: () => client.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'),
    })
  })
  return await listening(server, requests)
}

/** A SOCKS5 proxy: CONNECT to names and addresses, with or without user and password. */
export async function startSocksProxy(options: ProxyOptions = {}): Promise<TestProxy> {
  const requests: string[] = []
  const server = createServer((client) => {
    client.on('error', () => client.destroy())
    if (options.silent !== true) void serveSocks(client, options, requests).catch(() => undefined)
  })
  return await listening(server, requests)
}

type Read = (bytes: number) => Promise<Buffer>

async function serveSocks(client: Socket, options: ProxyOptions, requests: string[]) {
  const read = reading(client)
  if (!(await greet(client, read, options))) {
    client.end()
    return
  }
  const [, , , type] = await read(4)
  const host = await readHost(read, type)
  const port = (await read(2)).readUInt16BE()
  const asked = `${host}:${port}`
  requests.push(`CONNECT ${asked}`)
  client.removeAllListeners('data')
  join(options.leads?.[asked] ?? asked, client, {
    opened: () => client.write(socksReply(0)),
    failed: () => client.end(socksReply(5)),
  })
}

/** Reports whether the client is authenticated. */
async function greet(client: Socket, read: Read, { user }: ProxyOptions): Promise<boolean> {
  const [, count = 0] = await read(2)
  const isOffered = (await read(count)).includes(user ? 2 : 0)
  client.write(Buffer.from([5, isOffered ? (user ? 2 : 0) : 0xff]))
  if (!isOffered || user === undefined) return isOffered
  const [, userLength = 0] = await read(2)
  const username = (await read(userLength)).toString()
  const [passwordLength = 0] = await read(1)
  const password = (await read(passwordLength)).toString()
  const isRight = username === user.username && password === user.password
  client.write(Buffer.from([1, isRight ? 0 : 1]))
  return isRight
}

function socksReply(code: number): Buffer {
  return Buffer.from([5, code, 0, 1, 0, 0, 0, 0, 0, 0])
}

async function readHost(read: Read, type: number | undefined) {
  if (type === 1) return [...(await read(4))].join('.')
  if (type === 4) return `[${(await read(16)).toString('hex').match(/.{4}/g)?.join(':')}]`
  const [length = 0] = await read(1)
  return (await read(length)).toString()
}

/** Reads exactly the requested number of bytes each time. */
function reading(socket: Socket): Read {
  let held = Buffer.alloc(0)
  let wake: (() => void) | undefined
  socket.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk])
    wake?.()
  })
  return async (bytes) => {
    while (held.length < bytes) {
      await new Promise<void>((resolve) => (wake = resolve))
    }
    const taken = held.subarray(0, bytes)
    held = held.subarray(bytes)
    return taken
  }
}

function join(to: string, client: Duplex, on: { opened(): void; failed(): void }): void {
  const [host, port] = split(to)
  const server = connect({ host, port })
  server.on('error', () => on.failed())
  server.on('connect', () => {
    on.opened()
    server.pipe(client)
    client.pipe(server)
  })
  client.on('close', () => server.destroy())
}

function split(authority: string): [host: string, port: number] {
  const at = authority.lastIndexOf(':')
  const port = Number(authority.slice(at + 1))
  return at < 0 ? [authority, 80] : [authority.slice(0, at).replace(/^\[|\]$/g, ''), port]
}

async function listening(server: Server, requests: string[]): Promise<TestProxy> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const dispose = async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
  return { port, requests, [Symbol.asyncDispose]: dispose }
}
