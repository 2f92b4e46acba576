// The registry API as a Fastify application. Fastify gives the server, routing and its edges; what a
// path means is oci/target.ts, since names hold slashes, and every answer is written by an Exchange.
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Caches, Requester } from '../cache/caches.ts'
import { cdnHops, hasLooped } from '../http/cdn-loop.ts'
import { OciError } from '../oci/errors.ts'
import { parseTarget, type Target } from '../oci/target.ts'
import { answerBlob } from './answer-blob.ts'
import { answerError } from './answer-error.ts'
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

const MAX_BODY_BYTES = 64 * 1024 // bodies are not read at all; this is for what Fastify may try
/** What a chain of caches may have put into CDN-Loop; a longer one is taken for a loop. */
const MOST_HOPS = 32
const LONGEST_LOOP = 4096
const API_PATH = /^\/(?:[^/]+\/)?v2(?:\/|$)/

export interface AppOptions {
  /** Throws OciError 503 while the server is not ready to serve anything. */
  readonly caches: () => Caches
  /** Returns on whose behalf the requests are that come in now. */
  readonly requester: () => Requester
  readonly registries: Router
  readonly observer: ServerObserver
  /** Ours in CDN-Loop (RFC 8586). */
  readonly instanceId: string
  /** A reader that takes nothing for so long is dropped; looked at for each. */
  readonly clientStallTimeoutMs: number
  readonly tls?: TlsKeyPair | undefined
  /** How long a request may take to arrive. Default: the listener's. */
  readonly arrivalMs?: number | undefined
  readonly pool?: PiecePool | undefined
  /** Knows what runs, for the end of the server. */
  readonly connections?: Connections | undefined
}

export function createApp(options: AppOptions): FastifyInstance {
  const { observer, connections = new Connections() } = options
  const serve = createServe(options, connections)
  const take = (request: FastifyRequest, reply: FastifyReply) => {
    reply.hijack()
    serve(request.raw, reply.raw)
  }
  const takeFailed = (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
    reply.hijack()
    serve(request.raw, reply.raw, error)
  }
  const app = fastify<Server, IncomingMessage, ServerResponse>({
    serverFactory: (handler) => {
      const { tls, arrivalMs } = options
      return connections.watch(createListener(handler, { tls, arrivalMs }))
    },
    exposeHeadRoutes: false,
    bodyLimit: MAX_BODY_BYTES,
    return503OnClosing: false,
    routerOptions: { querystringParser: () => ({}) },
    // Paths that Fastify cannot decode are for oci/target.ts to refuse.
    frameworkErrors: (_error, request, reply) => take(request, reply),
    clientErrorHandler: refuseConnections((refused) => observer.connectionRefused(refused)),
  })
  // Nothing that is sent to us is read; Node discards it when the response is over.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _payload, done) => done(null))
  app.setErrorHandler(takeFailed)
  app.setNotFoundHandler(take)
  app.all('/*', take)
  return app
}

type Serve = (req: IncomingMessage, res: ServerResponse, error?: unknown) => void

function createServe(options: AppOptions, connections: Connections): Serve {
  const observer: RequestObserver = {
    requestStarted: () => options.observer.requestStarted(),
    requestFinished: (record) => {
      connections.ended(record)
      options.observer.requestFinished(record)
    },
  }
  const sender = new ContentSender(
    options.pool ?? new PiecePool(),
    () => options.clientStallTimeoutMs,
  )
  const idFor = requestIds()
  const serve = async (exchange: Exchange, failed: unknown): Promise<void> => {
    try {
      if (failed !== undefined) throw failed
      await dispatch(options, sender, exchange)
    } catch (error) {
      answerError(exchange, error, options.observer)
    }
  }
  return (req, res, failed) => {
    const exchange = new Exchange(req, res, idFor(req.headers['x-request-id']), observer)
    if (!connections.began(exchange)) return
    serve(exchange, failed).catch((error: unknown) => {
      options.observer.unexpectedError('refuse a request', error, exchange.id)
      res.destroy()
    })
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
  if (repository === undefined) throw new OciError('NAME_INVALID', 'there is no repository name')
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
    throw new OciError('UNSUPPORTED', 'there is nothing here: the registry API is under /v2/', {
      status: 404,
    })
  }
  const loop = exchange.header('cdn-loop')
  if (loop !== undefined) refuseLoop(loop, instanceId)
  return target
}

/** HTTP/1.1 wants exactly one Host (RFC 9112 3.2); of several Node would take the first. */
function requireHost({ httpVersion, headersDistinct }: IncomingMessage): void {
  const hosts = headersDistinct['host']?.length ?? 0
  if (hosts === 1 || (hosts === 0 && httpVersion === '1.0')) return
  throw new OciError('UNSUPPORTED', 'a request has one Host header', { status: 400 })
}

const LOOP_CURE = 'an endpoint of this registry leads back to Chandlery, change its mirrors'

function refuseLoop(loop: string, instanceId: string): void {
  const isEndless = loop.length > LONGEST_LOOP || cdnHops(loop) > MOST_HOPS
  if (!isEndless && !hasLooped(loop, instanceId)) return
  const what = isEndless ? `has passed more than ${MOST_HOPS} caches` : 'has been here before'
  throw new OciError('UNAVAILABLE', `this request ${what}: ${LOOP_CURE}`, { status: 508 })
}

/** Adds what the upstream has to see of this request: nothing of most, which share one requester. */
function requesterOf(exchange: Exchange, requester: Requester): Requester {
  const cdnLoop = exchange.header('cdn-loop')
  return cdnLoop === undefined ? requester : { ...requester, cdnLoop }
}

function readOnly(): OciError {
  const message = 'this registry is a cache and read-only: push to the upstream registry itself'
  return new OciError('UNSUPPORTED', message, { headers: { allow: 'GET, HEAD' } })
}

function noProxy(): OciError {
  const cure = 'name it as a mirror, not in HTTPS_PROXY'
  const message = `this is a registry and no HTTP proxy: ${cure}`
  return new OciError('UNSUPPORTED', message, { headers: { allow: 'GET, HEAD' } })
}

function addressing(exchange: Exchange): { ns?: string; host?: string } {
  const ns = queryValue(exchange.query, 'ns')
  const { host } = exchange
  return { ...(ns !== undefined && { ns }), ...(host !== undefined && { host }) }
}
