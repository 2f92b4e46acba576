// All Prometheus metrics. Labels are kinds, states, codes and endpoints, never repositories, tags, digests
// or clients.
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { ReloadOutcome } from '../admin/reload.ts'
import type { CacheObserver, StaleReason } from '../cache/observer.ts'
import type { DownloadObserver } from '../cache/download/options.ts'
import type { RefusedConnection, RequestRecord, ServerObserver } from '../server/observer.ts'
import type { StoreObserver } from '../store/driver/driver.ts'
import type { EndpointReport } from '../upstream/health/endpoint-health.ts'
import type { UpstreamError } from '../upstream/face/failure.ts'
import type { UpstreamObserver, EndpointState } from '../upstream/face/observer.ts'
import type { RateLimitReport } from '../upstream/health/quotas.ts'
import { BoundedLabel } from './bounded-label.ts'
import { statusLabel } from './status-label.ts'

/** Endpoints and realms beyond these counts become 'other': with a `"*"` mirror, clients choose the hosts. */
const MAX_ENDPOINTS = 100
const MAX_REALMS = 50
const MAX_CREDENTIALS = 50

const REQUEST_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600,
]
const UPSTREAM_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** The two kinds of content, as distribution's proxy metrics name them. */
const PROXIED = ['blob', 'manifest'] as const
type DownloadOutcome = Parameters<DownloadObserver['downloadEnded']>[0]
type Proxied = (typeof PROXIED)[number]

/** The phases of a shutdown: accepting requests, letting responses end, writing what is left to disk. */
export type ShutdownPhase = (typeof SHUTDOWN_PHASES)[number]
const SHUTDOWN_PHASES = ['delay', 'responses', 'storage'] as const

export interface StoreUsage {
  readonly blobs: number
  readonly bytes: number
}

export interface MetricsOptions {
  readonly version: string
  /** Whether to include the metrics of the process. Default: true. */
  readonly processMetrics?: boolean
  /** Returns what the store holds. Called at each scrape. */
  readonly storeUsage?: () => Promise<StoreUsage>
  /** The state and rate limits of endpoints. Read at each scrape. */
  readonly upstreams?: {
    endpoints(): Iterable<EndpointReport>
    rateLimits(): Iterable<RateLimitReport>
  }
}

const RELOAD_RESULTS: readonly ReloadOutcome['result'][] = ['reloaded', 'unchanged', 'refused']

const ENDPOINT_STATES: readonly EndpointState[] = ['ok', 'limited', 'half-open', 'open']

export class Metrics
  implements ServerObserver, UpstreamObserver, CacheObserver, DownloadObserver, StoreObserver
{
  readonly #registry = new Registry()
  readonly #endpoints = new BoundedLabel(MAX_ENDPOINTS)
  readonly #realms = new BoundedLabel(MAX_REALMS)
  readonly #credentials = new BoundedLabel(MAX_CREDENTIALS)

  readonly #requests = this.#counter(
    'chandlery_http_requests_total',
    'Requests answered, by kind, cache result and status code.',
    ['kind', 'cache', 'code'],
  )
  readonly #responseBytes = this.#counter(
    'chandlery_http_response_bytes_total',
    'Body bytes sent to clients.',
    ['kind', 'cache'],
  )
  readonly #requestSeconds = this.#histogram(
    'chandlery_http_request_duration_seconds',
    'Time from the arrival of a request to the end of its response body.',
    ['kind', 'cache'],
    REQUEST_SECONDS,
  )
  readonly #inFlight = this.#gauge('chandlery_http_requests_in_flight', 'Requests being answered.')
  readonly #shutdown = this.#gauge(
    'chandlery_shutdown_phase',
    'The current phase of the shutdown: 1 for the current one, else 0.',
    ['phase'],
  )
  readonly #cut = this.#counter(
    'chandlery_responses_cut_total',
    'Responses cut, or refused before they began, at the end of shutdownTimeout.',
  )
  readonly #cutBytes = this.#counter(
    'chandlery_response_bytes_cut_total',
    'Body bytes not sent in responses cut at the end of shutdownTimeout.',
  )
  readonly #refused = this.#counter(
    'chandlery_http_connections_refused_total',
    'Connections closed because no request could be read, by reason.',
    ['reason'],
  )
  readonly #upstreamRequests = this.#counter(
    'chandlery_upstream_requests_total',
    'Requests to upstream registries; code is the status (4xx for a rare one), or why there was none.',
    ['endpoint', 'kind', 'code'],
  )
  readonly #upstreamBytes = this.#counter(
    'chandlery_upstream_bytes_total',
    'Body bytes received from upstream registries.',
    ['endpoint'],
  )
  readonly #upstreamSeconds = this.#histogram(
    'chandlery_upstream_request_duration_seconds',
    'Time from a request to an upstream registry until its response headers.',
    ['endpoint'],
    UPSTREAM_SECONDS,
  )
  readonly #upstreamFailures = this.#counter(
    'chandlery_upstream_failures_total',
    'Requests to upstream registries that did not yield the content, by reason.',
    ['endpoint', 'reason'],
  )
  readonly #tokenRequests = this.#counter(
    'chandlery_token_requests_total',
    'Requests to token servers, by host and outcome.',
    ['realm', 'outcome'],
  )
  readonly #downloads = this.#gauge('chandlery_downloads_running', 'Blob downloads in progress.')
  readonly #downloadsEnded = this.#counter(
    'chandlery_downloads_total',
    'Blob downloads that ended, by outcome.',
    ['outcome'],
  )
  readonly #readers = this.#gauge(
    'chandlery_download_readers',
    'Responses being fed by downloads in progress.',
  )
  readonly #verificationFailures = this.#counter(
    'chandlery_verification_failures_total',
    'Content that did not match its digest or size, by the endpoint that sent it.',
    ['endpoint'],
  )
  readonly #staleServed = this.#counter(
    'chandlery_stale_served_total',
    'Responses served from the cache although no longer fresh, by reason.',
    ['reason'],
  )
  readonly #storeErrors = this.#counter(
    'chandlery_store_errors_total',
    'Failed reads and writes of the store, by operation.',
    ['operation'],
  )
  readonly #unexpectedErrors = this.#counter(
    'chandlery_unexpected_errors_total',
    'Internal errors: bugs in Chandlery, or a lack of file descriptors or memory.',
  )
  readonly #reloads = this.#counter(
    'chandlery_config_reloads_total',
    'Reloads of the configuration, by result.',
    ['result'],
  )
  readonly #reloadGood = this.#gauge(
    'chandlery_config_last_reload_successful',
    'Whether the last reload succeeded: 0 means that an older configuration is in use.',
  )
  readonly #reloadedAt = this.#gauge(
    'chandlery_config_last_reload_success_timestamp_seconds',
    'When the configuration was last loaded successfully.',
  )
  readonly #proxyRequests = this.#alias('requests', 'Requests for content')
  readonly #proxyHits = this.#alias('hits', 'Requests answered from the cache')
  readonly #proxyMisses = this.#alias('misses', 'Requests that needed the upstream')
  readonly #proxyPulled = this.#alias('pulled_bytes', 'Bytes received from upstream')
  readonly #proxyPushed = this.#alias('pushed_bytes', 'Bytes sent to clients')

  constructor(options: MetricsOptions) {
    this.#beginReloads()
    if (options.processMetrics !== false) this.#collectProcess()
    this.#gauge('chandlery_build_info', 'Always 1; the version is a label.', [
      'version',
      'node',
    ]).set({ version: options.version, node: process.versions.node }, 1)
    if (options.storeUsage) this.#collectStore(options.storeUsage)
    if (options.upstreams) this.#collectUpstreams(options.upstreams)
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  /** Returns the metrics in Prometheus text format. */
  exposition(): Promise<string> {
    return this.#registry.metrics()
  }

  /** Returns the name, type, help and labels of every metric, for the golden test. */
  async describe(): Promise<string[]> {
    const metrics = await this.#registry.getMetricsAsJSON()
    return metrics.map(({ name, type, help }) => {
      const labels = labelNamesOf(this.#registry.getSingleMetric(name)).join(',')
      return `${name}{${labels}} ${String(type)} ${help}`
    })
  }

  connectionRefused({ reason }: RefusedConnection): void {
    this.#refused.inc({ reason })
  }

  requestStarted(): void {
    this.#inFlight.inc()
  }

  requestFinished(record: RequestRecord): void {
    const { kind, bytes } = record
    const cache = record.cache ?? 'none'
    this.#inFlight.dec()
    this.#requests.inc({ kind, cache, code: record.status })
    this.#requestSeconds.observe({ kind, cache }, record.seconds)
    if (bytes > 0) this.#responseBytes.inc({ kind, cache }, bytes)
    if (kind === 'blob' || kind === 'manifest') this.#countProxied(kind, record)
  }

  shutdownPhase(phase: ShutdownPhase): void {
    for (const each of SHUTDOWN_PHASES) this.#shutdown.set({ phase: each }, each === phase ? 1 : 0)
  }

  responsesCut(cut: { responses: number; refused: number; missingBytes: number }): void {
    this.#cut.inc(cut.responses + cut.refused)
    this.#cutBytes.inc(cut.missingBytes)
  }

  upstreamRequest(event: {
    endpoint: string
    method: string
    kind: string
    outcome: string
    seconds: number
  }): void {
    const endpoint = this.#endpoints.of(event.endpoint)
    const code = statusLabel(event.outcome)
    this.#upstreamRequests.inc({ endpoint, kind: event.kind, code })
    this.#upstreamSeconds.observe({ endpoint }, event.seconds)
  }

  upstreamBytes(endpoint: string, bytes: number, kind: string): void {
    this.#upstreamBytes.inc({ endpoint: this.#endpoints.of(endpoint) }, bytes)
    if (kind === 'blob' || kind === 'manifest') this.#proxyPulled.inc({ type: kind }, bytes)
  }

  upstreamFailure(error: UpstreamError, { kind }: { kind: string }): void {
    const endpoint = this.#endpoints.of(error.endpoint)
    this.#upstreamFailures.inc({ endpoint, reason: error.reason })
    const isContent = kind === 'manifest' || kind === 'blob'
    if (isContent && error.kind === 'corrupt') this.verificationFailed(error.endpoint)
  }

  tokenRequest(event: { realm: string; outcome: 'ok' | 'refused' | 'failed' }): void {
    this.#tokenRequests.inc({ realm: this.#realms.of(event.realm), outcome: event.outcome })
  }

  downloadStarted(): void {
    this.#downloads.inc()
  }

  downloadEnded(outcome: DownloadOutcome): void {
    this.#downloads.dec()
    this.#downloadsEnded.inc({ outcome })
  }

  readersChanged(by: 1 | -1): void {
    this.#readers.inc(by)
  }

  /** Counts a failure of a blob's source; those of other requests come to `upstreamFailure`. */
  sourceFailed(error: UpstreamError): void {
    if (error.kind !== 'gone') this.upstreamFailure(error, { kind: 'blob' })
  }

  verificationFailed(endpoint: string): void {
    this.#verificationFailures.inc({ endpoint: this.#endpoints.of(endpoint) })
  }

  /** Counts a reload of the configuration. */
  configReloaded({ result }: Pick<ReloadOutcome, 'result'>): void {
    this.#reloads.inc({ result })
    this.#reloadGood.set(result === 'refused' ? 0 : 1)
    if (result !== 'refused') this.#reloadedAt.setToCurrentTime()
  }

  staleServed(reason: StaleReason): void {
    this.#staleServed.inc({ reason })
  }

  storeError(operation: string): void {
    this.#storeErrors.inc({ operation })
  }

  unexpectedError(): void {
    this.#unexpectedErrors.inc()
  }

  // distribution counts content found in its store as a hit. A revalidated tag counts as a hit here too.
  #countProxied(type: Proxied, record: RequestRecord): void {
    this.#proxyRequests.inc({ type })
    if (record.bytes > 0) this.#proxyPushed.inc({ type }, record.bytes)
    const { cache } = record
    if (cache === 'hit' || cache === 'stale' || cache === 'revalidated') {
      this.#proxyHits.inc({ type })
    } else if (cache !== undefined) {
      this.#proxyMisses.inc({ type })
    }
  }

  // The server only starts with a usable configuration.
  #beginReloads(): void {
    for (const result of RELOAD_RESULTS) this.#reloads.inc({ result }, 0)
    this.#reloadGood.set(1)
    this.#reloadedAt.setToCurrentTime()
  }

  // Three of prom-client's gauges are named like counters, which promtool rejects. Their figures are also
  // in nodejs_active_handles, _requests and _resources.
  #collectProcess(): void {
    collectDefaultMetrics({ register: this.#registry })
    for (const what of ['handles', 'requests', 'resources']) {
      this.#registry.removeSingleMetric(`nodejs_active_${what}_total`)
    }
  }

  #collectStore(usage: () => Promise<StoreUsage>): void {
    this.#collected(
      'chandlery_store_bytes',
      'Bytes of the blobs in the store.',
      async () => (await usage()).bytes,
    )
    this.#collected(
      'chandlery_store_blobs',
      'Blobs in the store.',
      async () => (await usage()).blobs,
    )
  }

  #collectUpstreams(upstreams: NonNullable<MetricsOptions['upstreams']>): void {
    this.#filled(
      'chandlery_upstream_endpoint_state',
      'The state of an endpoint: 1 for the current one, else 0.',
      ['endpoint', 'state'],
      (gauge) => {
        for (const report of upstreams.endpoints()) {
          const endpoint = this.#endpoints.of(report.endpoint)
          for (const state of ENDPOINT_STATES) {
            gauge.inc({ endpoint, state }, state === report.state ? 1 : 0)
          }
        }
      },
    )
    const labels = ['endpoint', 'credential']
    const limits = (what: 'limit' | 'remaining') => (gauge: Gauge) => {
      for (const report of upstreams.rateLimits())
        gauge.inc(this.#limitLabels(report), report[what])
    }
    const granted = 'Requests that a registry allows a credential per window, as it reports.'
    this.#filled('chandlery_upstream_ratelimit_limit', granted, labels, limits('limit'))
    const left = 'Requests that remain of the limit, as the registry reports.'
    this.#filled('chandlery_upstream_ratelimit_remaining', left, labels, limits('remaining'))
  }

  #limitLabels({ endpoint, credential }: RateLimitReport) {
    return { endpoint: this.#endpoints.of(endpoint), credential: this.#credentials.of(credential) }
  }

  /** Registers a gauge whose samples are made anew at each scrape. */
  #filled(name: string, help: string, labelNames: string[], fill: (gauge: Gauge) => void): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      collect: () => {
        gauge.reset()
        fill(gauge)
      },
    })
  }

  #collected(name: string, help: string, read: () => Promise<number>): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect: async () => gauge.set(await read()),
    })
  }

  #counter(name: string, help: string, labelNames: string[] = []): Counter {
    return new Counter({ name, help, labelNames, registers: [this.#registry] })
  }

  #gauge(name: string, help: string, labelNames: string[] = []): Gauge {
    return new Gauge({ name, help, labelNames, registers: [this.#registry] })
  }

  #histogram(name: string, help: string, labelNames: string[], buckets: number[]): Histogram {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.#registry] })
  }

  /** Registers a metric of distribution's proxy mode, so that its dashboards work here too. It starts at 0. */
  #alias(what: string, help: string): Counter {
    const counter = this.#counter(
      `registry_proxy_${what}_total`,
      `${help}, as counted by distribution.`,
      ['type'],
    )
    for (const type of PROXIED) counter.inc({ type }, 0)
    return counter
  }
}

function labelNamesOf(metric: unknown): readonly string[] {
  const names = metric instanceof Object && 'labelNames' in metric ? metric.labelNames : []
  return Array.isArray(names) ? names.map(String) : []
}
