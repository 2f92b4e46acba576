// The registry API as a Fastify application. What a path means is decided by oci/target.ts, because
// repository names contain slashes: Fastify's router sees "/" for every request.
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Caches, Requester } from '../cache/caches.ts'
import { cdnHops, hasLooped } from '../http/cdn-loop.ts'
import { OciError } from '../oci/errors.ts'
import { parseTarget, type Target } from '../oci/target.ts'
import { answerBlob } from './answer-blob.ts'
import { answerError, cutResponse } from './answer-error.ts'
import { answerCatalog, answerPing, answerReferrers, answerTags } from './answer-lists.ts'
import { answerManifest } from './answer-manifest.ts'
import { refuseConnections } from './client-error.ts'
import { Connections } from './connections.ts'
import { ContentSender } from './content-sender.ts'
import { Exchange } from './exchange.ts'
import type { RoutedRepository, Router } from './routing.ts'
import type { RequestObserver, ServerObserver } from './observer.ts'
import { PiecePool } from './piece-pool.ts'
import { queryValue } from './query.ts'
import { requestIds } from './request-id.ts'
import type { TlsKeyPair } from './tls-key-pair.ts'
import { createListener } from './tls-listener.ts'

declare module 'fastify' {
  interface FastifyRequest {
    exchange: Exchange
  }
}

/** The most hops that CDN-Loop may list; a longer chain of caches is taken for a loop. */
const MAX_HOPS = 32
const MAX_CDN_LOOP_LENGTH = 4096
const API_PATH = /^\/(?:[^/]+\/)?v2(?:\/|$)/

export interface AppOptions {
  /** Throws OciError 503 while the server is not ready to serve anything. */
  readonly caches: () => Caches
  /** Returns on whose behalf the requests are that come in now. */
  readonly requester: () => Requester
  readonly registries: Router
  readonly observer: ServerObserver
  /** The name of this server in CDN-Loop (RFC 8586). */
  readonly instanceId: string
  /** A client that takes no bytes for this long is disconnected. Read anew for each response. */
  readonly clientStallTimeoutMs: number
  readonly tls?: TlsKeyPair | undefined
  /** How long the head of a request may take to arrive. Default: the listener's. */
  readonly arrivalMs?: number | undefined
  readonly pool?: PiecePool | undefined
  /** Tracks the connections and running requests, so that the server can be drained. */
  readonly connections?: Connections | undefined
}

export function createApp(options: AppOptions): FastifyInstance {
  const { connections = new Connections() } = options
  const idFor = requestIds()
  const app = fastify<Server, IncomingMessage, ServerResponse>({
    serverFactory: (handler) => {
      const { tls, arrivalMs } = options
      return connections.watch(createListener(handler, { tls, arrivalMs }))
    },
    genReqId: ({ headers }) => idFor(headers['x-request-id']),
    rewriteUrl: () => '/',
    exposeHeadRoutes: false,
    return503OnClosing: false,
    routerOptions: { querystringParser: () => ({}) },
    clientErrorHandler: refuseConnections((refused) => options.observer.connectionRefused(refused)),
  })
  // Request bodies are not read; Node discards them when the response is over.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
  const observer = requestObserver(options.observer, connections)
  app.decorateRequest('exchange')
  app.addHook('onRequest', (request, reply, done) => {
    request.exchange = new Exchange(request, reply, observer)
    if (connections.began(request.exchange)) done()
    else reply.hijack()
  })
  app.setErrorHandler((error, { exchange }) => answerError(exchange, error, options.observer))
  const handle = createHandler(options)
  app.all('/', handle)
  app.setNotFoundHandler(handle) // methods that Fastify does not route
  return app
}

function requestObserver(observer: ServerObserver, connections: Connections): RequestObserver {
  return {
    requestStarted: () => observer.requestStarted(),
    requestFinished: (record) => {
      connections.ended(record)
      observer.requestFinished(record)
    },
  }
}

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<void>

function createHandler(options: AppOptions): Handler {
  const sender = new ContentSender(
    options.pool ?? new PiecePool(),
    () => options.clientStallTimeoutMs,
  )
  return async ({ exchange }, reply) => {
    try {
      await dispatch(options, sender, exchange)
    } catch (error) {
      if (!reply.sent) throw error
      cutResponse(exchange, error, options.observer) // Fastify drops errors of a reply that has begun
    }
  }
}

function dispatch(
  options: AppOptions,
  sender: ContentSender,
  exchange: Exchange,
): Promise<void> | void {
  const target = readTarget(exchange, options.instanceId)
  exchange.kind = target.kind
  const caches = options.caches()
  if (target.kind === 'upload') throw readOnly()
  const routed = options.registries.route(target, addressing(exchange))
  exchange.registry = routed.registry
  if (target.kind === 'ping') return answerPing(exchange)
  if (target.kind === 'catalog') return answerCatalog(caches, exchange, routed)
  const { repository } = routed
  if (repository === undefined)
    throw new OciError('NAME_INVALID', 'the path has no repository name')
  exchange.repository = repository.name
  const requester = requesterOf(exchange, options.requester())
  return answerContent(caches, sender, exchange, { ...routed, repository, requester }, target)
}

type ContentTarget = Exclude<Target, { kind: 'ping' | 'catalog' | 'upload' }>

function answerContent(
  caches: Caches,
  sender: ContentSender,
  exchange: Exchange,
  routed: RoutedRepository,
  target: ContentTarget,
): Promise<void> {
  if (target.kind === 'tags') return answerTags(caches, exchange, routed)
  if (target.kind === 'manifest') {
    exchange.reference = target.reference
    return answerManifest(caches, exchange, routed, target.reference)
  }
  exchange.reference = target.digest
  return target.kind === 'blob'
    ? answerBlob(caches, sender, exchange, routed, target.digest)
    : answerReferrers(caches, exchange, routed, target.digest)
}

function readTarget(exchange: Exchange, instanceId: string): Target {
  const { method, path } = exchange
  requireHost(exchange.req)
  if (method === 'CONNECT') throw noProxy()
  if (method !== 'GET' && method !== 'HEAD' && API_PATH.test(path)) throw readOnly()
  const target = parseTarget(path)
  if (target === undefined) {
    throw new OciError('UNSUPPORTED', 'nothing here: the registry API is under /v2/', {
      status: 404,
    })
  }
  const loop = exchange.header('cdn-loop')
  if (loop !== undefined) refuseLoop(loop, instanceId)
  return target
}

/** HTTP/1.1 requires exactly one Host header (RFC 9112 3.2); Node would take the first of several. */
function requireHost({ httpVersion, rawHeaders }: IncomingMessage): void {
  let hosts = 0
  // Not `headersDistinct`: it costs a request more than all of its routing.
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]
    if (name?.length === 4 && name.toLowerCase() === 'host') hosts += 1
  }
  if (hosts === 1 || (hosts === 0 && httpVersion === '1.0')) return
  throw new OciError('UNSUPPORTED', 'a request must have exactly one Host header', { status: 400 })
}

const LOOP_CURE = 'an endpoint of this registry leads back to Chandlery: change its mirrors'

function refuseLoop(loop: string, instanceId: string): void {
  const isEndless = loop.length > MAX_CDN_LOOP_LENGTH || cdnHops(loop) > MAX_HOPS
  if (!isEndless && !hasLooped(loop, instanceId)) return
  const what = isEndless ? `has passed more than ${MAX_HOPS} caches` : 'has been here before'
  throw new OciError('UNAVAILABLE', `this request ${what}: ${LOOP_CURE}`, { status: 508 })
}

/** Adds the request's CDN-Loop, which is passed on. Requests without one share a requester. */
function requesterOf(exchange: Exchange, requester: Requester): Requester {
  const cdnLoop = exchange.header('cdn-loop')
  return cdnLoop === undefined ? requester : { ...requester, cdnLoop }
}

function readOnly(): OciError {
  const message = 'this registry is a read-only cache: push to the upstream registry'
  return new OciError('UNSUPPORTED', message, { headers: { allow: 'GET, HEAD' } })
}

function noProxy(): OciError {
  const cure = 'configure it as a mirror, not as HTTPS_PROXY'
  const message = `this is a registry, not an HTTP proxy: ${cure}`
  return new OciError('UNSUPPORTED', message, { headers: { allow: 'GET, HEAD' } })
}

function addressing(exchange: Exchange): { ns?: string; host?: string } {
  const ns = queryValue(exchange.query, 'ns')
  const { host } = exchange
  return { ...(ns !== undefined && { ns }), ...(host !== undefined && { host }) }
}
