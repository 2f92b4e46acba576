// Every metric, in one file: what Chandlery tells Prometheus about itself. Labels are kinds, states,
// codes and endpoints; never a repository, a tag, a digest or a client.
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

/** Endpoints and realms beyond these counts are 'other': with `"*"` clients choose the hosts. */
const MAX_ENDPOINTS = 100
const MAX_REALMS = 50
const MAX_CREDENTIALS = 50

const REQUEST_SECONDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600,
]
const UPSTREAM_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** What distribution's proxy calls the two kinds of content. */
const PROXIED = ['blob', 'manifest'] as const
type DownloadOutcome = Parameters<DownloadObserver['downloadEnded']>[0]
type Proxied = (typeof PROXIED)[number]

/** What a server that was told to stop does now: takes requests, lets responses end, writes what is left. */
export type ShutdownPhase = (typeof SHUTDOWN_PHASES)[number]
const SHUTDOWN_PHASES = ['delay', 'responses', 'storage'] as const

export interface StoreUsage {
  readonly blobs: number
  readonly bytes: number
}

export interface MetricsOptions {
  readonly version: string
  /** Default: the process's own metrics too. */
  readonly processMetrics?: boolean
  /** What the store holds, asked at each scrape. */
  readonly storeUsage?: () => Promise<StoreUsage>
  /** How endpoints fare and what they grant, asked at each scrape. */
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
    'Requests answered, by what was asked for, how the cache handled it and the status code.',
    ['kind', 'cache', 'code'],
  )
  readonly #responseBytes = this.#counter(
    'chandlery_http_response_bytes_total',
    'Body bytes sent to clients.',
    ['kind', 'cache'],
  )
  readonly #requestSeconds = this.#histogram(
    'chandlery_http_request_duration_seconds',
    'Time from a request to the end of its response, body included.',
    ['kind', 'cache'],
    REQUEST_SECONDS,
  )
  readonly #inFlight = this.#gauge(
    'chandlery_http_requests_in_flight',
    'Requests being answered now.',
  )
  readonly #shutdown = this.#gauge(
    'chandlery_shutdown_phase',
    'What a server that was told to stop does now: 1 for the phase it is in.',
    ['phase'],
  )
  readonly #cut = this.#counter(
    'chandlery_responses_cut_total',
    'Responses that were cut, or refused unbegun, at the end of shutdownTimeout.',
  )
  readonly #cutBytes = this.#counter(
    'chandlery_response_bytes_cut_total',
    'Body bytes that the clients of responses cut at the end of shutdownTimeout lacked.',
  )
  readonly #refused = this.#counter(
    'chandlery_http_connections_refused_total',
    'Connections closed because no request could be read from them, by reason.',
    ['reason'],
  )
  readonly #upstreamRequests = this.#counter(
    'chandlery_upstream_requests_total',
    'Requests to upstream registries; code is the status (4xx for a rare one), or the reason why there was none.',
    ['endpoint', 'kind', 'code'],
  )
  readonly #upstreamBytes = this.#counter(
    'chandlery_upstream_bytes_total',
    'Body bytes received from upstream registries.',
    ['endpoint'],
  )
  readonly #upstreamSeconds = this.#histogram(
    'chandlery_upstream_request_duration_seconds',
    'Time from a request to an upstream registry to the head of its response.',
    ['endpoint'],
    UPSTREAM_SECONDS,
  )
  readonly #upstreamFailures = this.#counter(
    'chandlery_upstream_failures_total',
    'Answers of upstream registries that did not bring the content, by reason.',
    ['endpoint', 'reason'],
  )
  readonly #tokenRequests = this.#counter(
    'chandlery_token_requests_total',
    'Requests to token servers, by their host and outcome.',
    ['realm', 'outcome'],
  )
  readonly #downloads = this.#gauge('chandlery_downloads_running', 'Blob downloads running now.')
  readonly #downloadsEnded = this.#counter(
    'chandlery_downloads_total',
    'Blob downloads that ended, by outcome.',
    ['outcome'],
  )
  readonly #readers = this.#gauge(
    'chandlery_download_readers',
    'Responses fed by running downloads now.',
  )
  readonly #verificationFailures = this.#counter(
    'chandlery_verification_failures_total',
    'Content that was not what its digest or size says, by the endpoint that gave it.',
    ['endpoint'],
  )
  readonly #staleServed = this.#counter(
    'chandlery_stale_served_total',
    'Answers from what was held although it was no longer fresh, by reason.',
    ['reason'],
  )
  readonly #storeErrors = this.#counter(
    'chandlery_store_errors_total',
    'Failures to read or write the store, by operation.',
    ['operation'],
  )
  readonly #unexpectedErrors = this.#counter(
    'chandlery_unexpected_errors_total',
    'Errors of Chandlery itself: bugs, or a lack of file descriptors or memory.',
  )
  readonly #reloads = this.#counter(
    'chandlery_config_reloads_total',
    'Times that the configuration was read again, by what came of it.',
    ['result'],
  )
  readonly #reloadGood = this.#gauge(
    'chandlery_config_last_reload_successful',
    'Whether the configuration could be used when it was last read: 0 means that a former one holds.',
  )
  readonly #reloadedAt = this.#gauge(
    'chandlery_config_last_reload_success_timestamp_seconds',
    'When the configuration was last read that could be used.',
  )
  readonly #proxyRequests = this.#alias('requests', 'Requests for content')
  readonly #proxyHits = this.#alias('hits', 'Requests answered from the cache')
  readonly #proxyMisses = this.#alias('misses', 'Requests that had to ask the upstream')
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

  /** The exposition for Prometheus. */
  exposition(): Promise<string> {
    return this.#registry.metrics()
  }

  /** Every metric's name, type, help and labels, for the golden test. */
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

  /** What upstreamFailure is for everything else. */
  sourceFailed(error: UpstreamError): void {
    if (error.kind !== 'gone') this.upstreamFailure(error, { kind: 'blob' })
  }

  verificationFailed(endpoint: string): void {
    this.#verificationFailures.inc({ endpoint: this.#endpoints.of(endpoint) })
  }

  /** The configuration was read again. */
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

  // distribution counts what was found in the store as a hit; a revalidated tag is one for us too.
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

  // The one that it starts with is good.
  #beginReloads(): void {
    for (const result of RELOAD_RESULTS) this.#reloads.inc({ result }, 0)
    this.#reloadGood.set(1)
    this.#reloadedAt.setToCurrentTime()
  }

  // prom-client's three gauges that are named like counters would fail promtool's check; their
  // figures are in nodejs_active_handles and the like too.
  #collectProcess(): void {
    collectDefaultMetrics({ register: this.#registry })
    for (const what of ['handles', 'requests', 'resources']) {
      this.#registry.removeSingleMetric(`nodejs_active_${what}_total`)
    }
  }

  #collectStore(usage: () => Promise<StoreUsage>): void {
    this.#collected(
      'chandlery_store_bytes',
      'Bytes of the blobs held.',
      async () => (await usage()).bytes,
    )
    this.#collected('chandlery_store_blobs', 'Blobs held.', async () => (await usage()).blobs)
  }

  #collectUpstreams(upstreams: NonNullable<MetricsOptions['upstreams']>): void {
    this.#filled(
      'chandlery_upstream_endpoint_state',
      'How an endpoint fares: 1 for the state it is in.',
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
    const granted = 'Requests that a registry grants to a credential in a window, as it says.'
    this.#filled('chandlery_upstream_ratelimit_limit', granted, labels, limits('limit'))
    const left = 'Of the requests granted, those left.'
    this.#filled('chandlery_upstream_ratelimit_remaining', left, labels, limits('remaining'))
  }

  #limitLabels({ endpoint, credential }: RateLimitReport) {
    return { endpoint: this.#endpoints.of(endpoint), credential: this.#credentials.of(credential) }
  }

  /** A gauge whose samples are made anew at each scrape. */
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

  /** A metric of distribution's proxy mode, so that its dashboards go on working; begins at 0. */
  #alias(what: string, help: string): Counter {
    const counter = this.#counter(
      `registry_proxy_${what}_total`,
      `${help}, as distribution has it.`,
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
