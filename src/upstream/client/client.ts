// Requests to registries: authorisation, and what is content and what a failure. What content is
// worth (digests, pages) is not known here.
import { withCdnLoop } from '../../http/cdn-loop.ts'
import { Authorizer } from '../auth/authorizer.ts'
import type { AuthContext, Grant } from '../auth/authorizer.ts'
import type { BreakerOptions } from '../health/breaker.ts'
import { Call } from './call.ts'
import type { CallOptions, Reached } from './call.ts'
import { waitFor } from '../deadline.ts'
import { diagnoseAnswer } from '../diagnosis/answer.ts'
import { nameOnWire } from '../routing/endpoint.ts'
import { EndpointHealth } from '../health/endpoint-health.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import type { BodyEnd } from '../network/body-stream.ts'
import { UpstreamError } from '../face/failure.ts'
import { configForHost } from '../routing/host-config.ts'
import { DEFAULT_LIMITS } from '../network/timeouts.ts'
import type { UpstreamLimits } from '../network/timeouts.ts'
import type { UpstreamObserver } from '../face/observer.ts'
import { ping } from './ping.ts'
import { RateLimits } from '../health/quotas.ts'
import { readStart } from '../network/read-body.ts'
import { settingsId } from '../network/settings-id.ts'
import type { SourceFetchOptions } from '../face/source.ts'
import { Transport } from '../network/transport.ts'
import type { HostOptions, TransportOptions } from '../network/transport.ts'
import type { RegistryRequest, RegistryResponse } from './request.ts'

export interface ClientOptions extends TransportOptions {
  /** Ours, for User-Agent. */
  readonly version: string
  /** This process's name in CDN-Loop (RFC 8586): how a request that comes back is known. */
  readonly instanceId: string
  /** The `configs`, by host[:port]. */
  readonly hosts?: Readonly<Record<string, HostOptions>>
  readonly observer?: UpstreamObserver | undefined
  readonly limits?: Partial<UpstreamLimits>
  /** Where what registries say about their limits is kept; by default nobody else sees it. */
  readonly rateLimits?: RateLimits
  readonly breaker?: Partial<BreakerOptions>
  readonly now?: () => number
  /** The client whose place this one takes: they share connections, tokens and limits. */
  readonly former?: RegistryClient | undefined
  /** What the former knows of how this endpoint fares still holds. Default: of every one. */
  readonly keepsHealth?: (endpoint: Pick<Endpoint, 'key' | 'host'>) => boolean
}

/** Tokens fetched for one request: with the first challenge, and once more if that was refused. */
const MAX_CHALLENGES = 2
const ERROR_BODY_BYTES = 64 * 1024

export class RegistryClient {
  readonly health: EndpointHealth
  readonly #hosts: Readonly<Record<string, HostOptions>>
  readonly #transport: Transport
  readonly #authorizer: Authorizer
  readonly #callOptions: CallOptions
  readonly #now: () => number
  readonly #resolver: ClientOptions['resolver']

  constructor(options: ClientOptions) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits }
    const { observer, now = Date.now } = options
    const headers = {
      'user-agent': `chandlery/${options.version}`,
      'cdn-loop': withCdnLoop(undefined, options.instanceId),
      'accept-encoding': 'identity',
    }
    this.#now = now
    this.#resolver = options.resolver
    this.#hosts = options.hosts ?? {}
    const { former } = options
    this.#transport = new Transport(this.#hosts, limits, options, former && former.#transport)
    const { instanceId, breaker } = options
    const { rateLimits = former?.health.rateLimits ?? new RateLimits(now) } = options
    const health = new EndpointHealth({ rateLimits, observer, now, ...(breaker && { breaker }) })
    if (former !== undefined) health.inherit(former.health, options.keepsHealth ?? (() => true))
    this.health = health
    this.#callOptions = { transport: this.#transport, headers, instanceId, health, observer }
    this.#authorizer = new Authorizer({ ...this.#callOptions, now }, former && former.#authorizer)
  }

  /** How blobs are fetched from this endpoint, where the configuration says so. */
  fetchOptions({ host }: Endpoint): SourceFetchOptions | undefined {
    return configForHost(this.#hosts, host)?.fetch
  }

  /** How long it may take, and what it leads to that has no limits of its own. */
  limitsFor({ host }: Endpoint): UpstreamLimits {
    return this.#transport.limitsFor({ host })
  }

  /** Of how this endpoint is connected to and asked: equal for equal settings. */
  settingsOf({ host }: Endpoint): string {
    const limits = this.#transport.limitsFor({ host })
    return settingsId([configForHost(this.#hosts, host), limits, this.#resolver?.id])
  }

  /**
   * Resolves for 2xx and 416. Throws UpstreamError for all else, the signal's reason, or an error
   * that is ours; that says nothing about the endpoint and leaves its health as it is.
   */
  async request(endpoint: Endpoint, request: RegistryRequest): Promise<RegistryResponse> {
    const call = new Call(this.#callOptions, endpoint, request)
    try {
      // Whoever leaves is released at once, whatever the request is waiting for.
      return await waitFor(this.#perform(call), request.signal)
    } catch (error) {
      const isAborted = request.signal?.aborted === true
      this.#failed(call, isAborted ? request.signal.reason : error)
      request.signal?.throwIfAborted()
      if (!(error instanceof UpstreamError)) this.#reportFault(error)
      throw error
    }
  }

  /** Finds out whether an endpoint answers at all, and remembers it. Never throws. */
  async probe(endpoint: Endpoint, publicOnly = false): Promise<void> {
    const { connectTimeoutMs, headersTimeoutMs } = this.limitsFor(endpoint)
    const signal = AbortSignal.timeout(connectTimeoutMs + headersTimeoutMs)
    try {
      const failed = await ping(this.#callOptions, { endpoint, publicOnly, signal })
      if (failed === undefined) this.health.probed(endpoint)
      else this.health.failed(endpoint, 'endpoint', failed)
    } catch (error) {
      this.#reportFault(error)
    }
  }

  /**
   * It has taken its former's place: connections that it would make otherwise are closed once
   * nothing runs on them, and files are read again.
   */
  async settle(): Promise<void> {
    await this.#transport.settle()
  }

  /** Breaks off what is running, that of its formers too. */
  async close(): Promise<void> {
    await this.#transport.close()
  }

  #worked(call: Call, { status, body }: Reached, startedAtMs: number): void {
    const { endpoint, request } = call
    const { health } = this
    health.rateLimits.granted(endpoint, request.credential)
    health.answered(endpoint)
    if (request.method === 'HEAD' || status === 416) return
    void body.ended.then((end) => this.#bodyEnded(call, end, startedAtMs))
  }

  #bodyEnded({ endpoint, lane }: Call, end: BodyEnd, startedAtMs: number): void {
    const { outcome, bytes, error } = end
    if (error instanceof UpstreamError) {
      this.health.bodyFailed(endpoint, lane, { error, bytes, startedAtMs })
    } else if (outcome === 'whole') this.health.bodyCompleted(endpoint, lane, bytes)
    else this.health.bodyAbandoned(endpoint, lane, bytes)
    if (outcome === 'broken' && !(error instanceof UpstreamError)) this.#reportFault(error)
  }

  #reportFault(error: unknown): void {
    this.#callOptions.observer?.unexpectedError?.('ask an upstream', error)
  }

  #failed({ endpoint, request, lane, part }: Call, error: unknown): void {
    // The caller left: that says nothing about the endpoint.
    if (!(error instanceof UpstreamError)) return
    if (countsAsOutage(error)) return this.health.failed(endpoint, part, error)
    this.health.answered(endpoint)
    if (error.kind !== 'rate-limited') return
    const { retryAfterMs } = error
    this.health.rateLimits.refused(endpoint, request.credential, lane, retryAfterMs)
    this.health.limitChanged(endpoint, error)
  }

  async #perform(call: Call): Promise<RegistryResponse> {
    const context = authContextOf(call)
    let grant = await this.#authorizer.recall(context)
    let challenges = 0
    let storageRetried = false
    for (;;) {
      const startedAtMs = this.#now()
      const reached = await call.follow(grant)
      if (isContent(reached)) {
        const response = accept(call, reached, grant)
        this.#worked(call, reached, startedAtMs)
        return response
      }
      // Read before anything else is asked, so that it holds no connection meanwhile.
      const body = await readStart(reached.body, ERROR_BODY_BYTES)
      call.request.signal?.throwIfAborted()
      if (reached.status === 401 && !reached.redirected && challenges++ < MAX_CHALLENGES) {
        const challenge = reached.headers['www-authenticate']
        const next = await this.#authorizer.answer(challenge, context, grant)
        grant = next ?? grant
        if (next !== undefined) continue
      } else if (isRefused(reached) && reached.redirected && !storageRetried) {
        // A signed URL may have expired on the way: the registry is asked for a fresh one.
        storageRetried = true
        continue
      }
      throw diagnoseAnswer({ ...reached, body }, call.asked(reached.url, grant), this.#now())
    }
  }
}

/** Not if it only says that it does not like the question: it would answer another one. */
function countsAsOutage({ kind, reason, status = 500 }: UpstreamError): boolean {
  if (kind !== 'unavailable' || reason === 'loop') return false
  return reason === 'timed-out' || (status >= 500 && status !== 501)
}

/** Digests are over the bytes as they are: content that is encoded all the same is refused. */
function accept(call: Call, reached: Reached, grant: Grant | undefined): RegistryResponse {
  const { status, headers, url, body } = reached
  const encoding = headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity') {
    body.discard()
    const what = `sends Content-Encoding ${JSON.stringify(encoding)} although asked for identity`
    throw call.failure('protocol', `${url.host} ${what}`)
  }
  const isOurs = grant !== undefined && call.request.credential.kind !== 'anonymous'
  return { status, headers, url, body, grantedBy: isOurs ? 'credential' : 'anonymous' }
}

function authContextOf(call: Call): AuthContext {
  const { endpoint, request, reach } = call
  const { credential, signal } = request
  return { endpoint, name: nameOnWire(endpoint, request.name), credential, reach, signal }
}

function isContent({ status }: Reached): boolean {
  return (status >= 200 && status < 300) || status === 416
}

function isRefused(reached: Reached): boolean {
  return reached.status === 401 || reached.status === 403
}
