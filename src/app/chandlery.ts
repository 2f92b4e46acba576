// The composition root: gives every room its options and observer, and starts and stops them in order.
// Besides main.ts, only this file knows all rooms.
import { randomUUID } from 'node:crypto'
import type { Caches } from '../cache/caches.ts'
import { createAdminApp } from '../admin/app.ts'
import { Readiness } from '../admin/readiness.ts'
import type { Config } from '../config/config.ts'
import { formatListenAddress } from '../config/listen-address.ts'
import {
  type Generation,
  type GenerationOptions,
  firstGeneration,
  listedEndpoints,
  nextGeneration,
} from './generation.ts'
import { DirectoryRelease } from './directory-release.ts'
import { bind, portOf } from './listening.ts'
import { AccessLog } from '../observability/access-log.ts'
import { EventLog } from '../observability/event-log.ts'
import type { Logger } from '../observability/logger.ts'
import { Metrics } from '../observability/metrics.ts'
import { Observer } from '../observability/observer.ts'
import { OciError } from '../oci/errors.ts'
import { openCaches, type Opened } from './open-caches.ts'
import { Reloading, type ReloadingOptions } from './reloading.ts'
import { createApp } from '../server/app.ts'
import { Connections, type Cut } from '../server/connections.ts'
import { drain } from '../server/drain.ts'
import { TlsKeyPair } from '../server/tls-key-pair.ts'
import { type Ownership, takeOwnership } from '../store/owner/owner.ts'
import type { Store } from '../store/store.ts'
import type { UpstreamLimits } from '../upstream/network/timeouts.ts'
import type { EndpointReport } from '../upstream/health/endpoint-health.ts'
import { Probing } from '../upstream/client/probing.ts'
import type { ProxyEnvironment } from '../upstream/network/proxy/egress-proxy.ts'
import type { RateLimitReport } from '../upstream/health/quotas.ts'
import { within } from './within.ts'

export interface ChandleryOptions {
  readonly version: string
  readonly logger: Logger
  /** Limits for upstreams that differ from the defaults. */
  readonly limits?: Partial<UpstreamLimits>
  /** The proxies for hosts that have none of their own. */
  readonly proxies?: ProxyEnvironment
  /** The first pause before a source that failed is asked again, in milliseconds. */
  readonly retryDelayMs?: number
  /** A held blob is hashed again at one in this many reads. */
  readonly sampleEvery?: number
  /** How the configuration is reloaded; without this it never is. */
  readonly reloads?: Pick<ReloadingOptions, 'loaded' | 'load'> &
    Partial<Pick<ReloadingOptions, 'lookEveryMs'>>
}

export interface StopOptions {
  /** When it fires, running responses are cut and everything ends at once. */
  readonly hurry?: AbortSignal
  /** False skips `shutdownDelay`: another server has the directory. Default true. */
  readonly delay?: boolean
}

type App = ReturnType<typeof createApp>

const SWEEP_EVERY_MS = 3600_000
const LOOK_EVERY_MS = 2_000
/** How long `stop` waits for a start that is still in progress. */
const STARTING_MS = 3_000
/** How long the last reads of files and the last scrape may take at the end. */
const LAST_READ_MS = 500

export class Chandlery {
  readonly #generationOptions: GenerationOptions
  readonly #logger: Logger
  readonly #observer: Observer
  readonly #readiness = new Readiness()
  readonly #keyPair: TlsKeyPair | undefined
  readonly #reloading: Reloading | undefined
  readonly #admin: App
  readonly #app: App
  readonly #starting = new AbortController()
  readonly #connections = new Connections()
  readonly #lost = Promise.withResolvers<void>()
  readonly #retryDelayMs: number | undefined
  readonly #sampleEvery: number | undefined
  #generation: Generation
  #started: Promise<void> | undefined
  #ownership: Ownership | undefined
  #probing: Probing | undefined
  #open: Opened | undefined
  #sweeping: NodeJS.Timeout | undefined
  readonly #sweepsEnd = new AbortController()
  /** Whether another server has taken the directory. */
  #isLost = false

  /** Throws if an option cannot be used, such as a certificate that cannot be read. */
  constructor(config: Config, options: ChandleryOptions) {
    const { version, logger, limits, proxies } = options
    this.#retryDelayMs = options.retryDelayMs
    this.#sampleEvery = options.sampleEvery
    this.#logger = logger
    const metrics = this.#createMetrics(version)
    this.#observer = new Observer(metrics, new AccessLog(logger), new EventLog(logger))
    const instanceId = `chandlery-${randomUUID()}`
    const observer = this.#observer
    this.#generationOptions = { version, instanceId, observer, limits, proxies }
    this.#generation = firstGeneration(config, this.#generationOptions)
    this.#keyPair = config.tls && new TlsKeyPair(config.tls)
    this.#reloading = this.#createReloading(options.reloads)
    this.#readiness.missing('store', 'the cache directory is not open yet')
    this.#admin = this.#createAdmin(metrics)
    this.#app = this.#createApp(instanceId)
  }

  get #config(): Config {
    return this.#generation.config
  }

  #createMetrics(version: string): Metrics {
    return new Metrics({
      version,
      storeUsage: async () => (await this.#open?.store.blobs.usage()) ?? { blobs: 0, bytes: 0 },
      upstreams: {
        endpoints: () => this.#generation.client.health.report(),
        rateLimits: () => this.#generation.client.health.rateLimits.report(),
      },
    })
  }

  #createReloading(reloads: ChandleryOptions['reloads']): Reloading | undefined {
    if (reloads === undefined) return undefined
    return new Reloading({
      lookEveryMs: LOOK_EVERY_MS,
      ...reloads,
      apply: (config, changed) => this.#apply(config, changed),
      onOutcome: (outcome, trigger) => this.#observer.configReloaded(outcome, trigger),
      onError: (error) => this.#observer.unexpectedError('look at files', error),
    })
  }

  #createAdmin(metrics: Metrics): App {
    const reloading = this.#reloading
    return createAdminApp({
      metrics,
      readiness: this.#readiness,
      details: () => [
        ...(reloading?.describe() ?? []),
        ...this.#observer.keeping.describe(),
        ...this.#generation.client.health.report().map(describeEndpoint),
        ...this.#generation.client.health.rateLimits.report().map(describeRateLimit),
      ],
      ...(reloading && {
        reload: {
          reload: () => reloading.reload('POST /-/reload'),
          token: async () => await this.#config.admin.token?.read({ maxAgeMs: 0 }),
        },
      }),
    })
  }

  #createApp(instanceId: string): App {
    const config = () => this.#config
    return createApp({
      registries: { route: (...asked) => this.#generation.registries.route(...asked) },
      caches: () => this.#caches(),
      requester: () => this.#generation.requester,
      observer: this.#observer,
      instanceId,
      get clientStallTimeoutMs() {
        return config().clientStallTimeoutMs
      },
      tls: this.#keyPair,
      connections: this.#connections,
    })
  }

  /** Resolves when another server has taken the directory: this one must stop then. */
  get lost(): Promise<void> {
    return this.#lost.promise
  }

  /** The ports that are listened on, which the configuration may leave to the system (0). */
  get ports(): { readonly api: number; readonly admin: number } {
    return { api: portOf(this.#app), admin: portOf(this.#admin) }
  }

  /** Listens, waits until the directory is free, takes and opens it. Rejects if any of that fails. */
  async start(): Promise<void> {
    this.#started = this.#start()
    await this.#started
  }

  /** Reloads the configuration and the files it names. The log says what came of it. */
  async reload(trigger: string): Promise<void> {
    await this.#reloading?.reload(trigger)
  }

  async #start(): Promise<void> {
    await this.#reloading?.start()
    const { listen, admin, storage } = this.#config
    await bind(this.#admin, admin.listen, 'admin.listen')
    await bind(this.#app, listen, 'listen')
    const address = formatListenAddress(listen)
    this.#logger.info({ listen: address, admin: formatListenAddress(admin.listen) }, 'listening')
    const ownership = await takeOwnership(
      storage.directory,
      { listen: address },
      {
        signal: this.#starting.signal,
        onWaiting: ({ host, pid, listen: at }) => this.#waitFor(`pid ${pid} on ${host}, ${at}`),
        onLost: () => this.#lose(),
        onError: (error) => this.#observer.storeError('heartbeat', error),
      },
    )
    this.#open = await this.#openOwned(storage.directory, ownership)
    this.#ownership = ownership
    this.#sweep(this.#open.store)
    this.#probe()
    this.#readiness.met('store')
    this.#logger.info({ directory: storage.directory }, 'ready')
  }

  /**
   * Opens the directory, or releases it if that fails. `stop` cannot do that for a directory that is not open
   * yet: a hanging disk may still write there after `stop` has ended.
   */
  async #openOwned(directory: string, ownership: Ownership): Promise<Opened> {
    try {
      return await openCaches({
        directory,
        observer: this.#observer,
        generation: () => this.#generation,
        retryDelayMs: this.#retryDelayMs,
        sampleEvery: this.#sampleEvery,
        signal: this.#starting.signal,
      })
    } catch (error) {
      await ownership.release().catch((cause: unknown) => this.#notReleased(cause))
      throw error
    }
  }

  #notReleased(error: unknown): void {
    this.#observer.storeError('release the directory', error)
  }

  /** Another server has taken the directory: nothing is written there from now on. */
  #lose(): void {
    this.#isLost = true
    // An opening that is still in progress must not write there either.
    this.#starting.abort(new Error('another server has taken the directory'))
    void this.#open?.store.close()
    this.#lost.resolve()
  }

  /**
   * Stops in order: requests are accepted for `shutdownDelay`, running responses may end within
   * `shutdownTimeout`, and then they are cut and everything is closed. Resolves with whether no response
   * was cut.
   */
  async stop({ hurry, delay = true }: StopOptions = {}): Promise<boolean> {
    const { shutdownDelayMs, shutdownTimeoutMs } = this.#config
    this.#readiness.missing('running', 'the server is stopping')
    this.#starting.abort(new Error('the server is stopping'))
    this.#reloading?.stop()
    // The start may be about to take a port or the directory, which would stay taken.
    const isStarted = await within(STARTING_MS, async () => await this.#started?.catch(() => {}))
    if (!isStarted)
      this.#notReleased(new Error(`the start took longer than ${STARTING_MS} ms to end`))
    const delayMs = delay && this.#open ? shutdownDelayMs : 0
    this.#observer.shutdownPhase('delay')
    const opened = this.#open
    const directory = this.#beginRelease()
    const cut = await drain({
      connections: this.#connections,
      delayMs,
      timeoutMs: shutdownTimeoutMs,
      hurry,
      onClosed: (running) => this.#closed(running),
      meanwhile: () => directory.tryRelease(),
    })
    this.#noteCut(cut, hurry?.aborted === true)
    await directory.release()
    // Ends the downloads that were handed over, and closes files that responses were still reading.
    await within(LAST_READ_MS, async () => {
      await opened?.downloads.stop()
      await this.#generation.client.close()
    })
    await this.#connections.closed()
    await this.#app.close()
    await closeAdmin(this.#admin)
    return cut.responses + cut.refused === 0
  }

  #beginRelease(): DirectoryRelease {
    return new DirectoryRelease({
      opened: this.#open,
      ownership: this.#ownership,
      connections: this.#connections,
      observer: this.#observer,
      logger: this.#logger,
      isLost: () => this.#isLost,
      onRelease: () => {
        this.#open = undefined // from now on requests are answered with 503 and Retry-After
        this.#probing?.[Symbol.dispose]()
        clearInterval(this.#sweeping)
        this.#sweepsEnd.abort()
      },
    })
  }

  #closed(running: number): void {
    this.#observer.shutdownPhase('responses')
    const { shutdownTimeoutMs: timeoutMs } = this.#config
    this.#logger.info(
      { running, timeoutMs },
      'no new connections are accepted; running responses may end',
    )
  }

  #noteCut(cut: Cut, isHurried: boolean): void {
    this.#observer.responsesCut(cut)
    if (cut.responses + cut.refused === 0) return
    const why = isHurried ? 'told to end at once' : 'shutdownTimeout has passed'
    this.#logger.warn(cut, `${why}: running responses were cut`)
  }

  #waitFor(owner: string): void {
    const { directory } = this.#config.storage
    const reason = `${directory} belongs to another server (${owner}); waiting until it ends`
    this.#readiness.missing('store', reason)
    this.#logger.warn({ directory, owner }, reason)
  }

  /** Applies a configuration to all requests from now on; running ones end under the former one. */
  async #apply(config: Config, changed: { readonly files: boolean }): Promise<void> {
    const former = this.#generation
    const next = nextGeneration(config, this.#generationOptions, former)
    if (next.credentials !== former.credentials) await next.credentials.prepare()
    const pair = config.tls && (await this.#keyPair?.read(config.tls))
    // Nothing below may fail: a configuration is applied as a whole or not at all.
    this.#generation = next
    this.#logger.level = config.log.level
    if (pair) this.#keyPair?.use(pair)
    next.credentials.recheck()
    next.client.settle().catch((error: unknown) => this.#observer.unexpectedError('reload', error))
    const isUpstreamNew = next.upstream !== former.upstream
    if (isUpstreamNew || changed.files) this.#open?.manifestCaches.forgetFailures()
    if (isUpstreamNew || config.health.probeMs !== former.config.health.probeMs) this.#probe()
  }

  /** Starts background probes of the endpoints, if they are configured and the store is open. */
  #probe(): void {
    this.#probing?.[Symbol.dispose]()
    this.#probing = undefined
    const { client, config } = this.#generation
    const { probeMs: everyMs } = config.health
    if (everyMs === undefined || this.#open === undefined) return
    const endpoints = listedEndpoints(this.#generation)
    this.#probing = new Probing({ client, endpoints, everyMs })
  }

  #caches(): Caches {
    if (this.#open) return this.#open.caches
    throw new OciError('UNAVAILABLE', this.#readiness.reasons.join('; '), {
      status: 503,
      headers: { 'retry-after': '5' },
    })
  }

  // Removes partial downloads that nobody came back for, now and every hour.
  #sweep(store: Store): void {
    const sweep = () => {
      const { partialTtlMs } = this.#config.fetch
      store.blobs
        .removePartials(partialTtlMs, this.#sweepsEnd.signal)
        .catch((error: unknown) => this.#observer.storeError('remove partial downloads', error))
    }
    sweep()
    this.#sweeping = setInterval(sweep, SWEEP_EVERY_MS).unref()
  }
}

// Closed last, so that /healthz answers until the end. An idle connection would keep it open.
async function closeAdmin(admin: App): Promise<void> {
  const timer = setTimeout(() => admin.server.closeAllConnections(), LAST_READ_MS)
  await admin.close()
  clearTimeout(timer)
}

function describeEndpoint({ endpoint, state, message }: EndpointReport): string {
  return message === undefined ? `${endpoint}: ${state}` : `${endpoint}: ${state} (${message})`
}

function describeRateLimit(report: RateLimitReport): string {
  const { endpoint, credential, limit, remaining, source } = report
  const counted = source === undefined ? '' : `, counted by ${source}`
  return `${endpoint}: ${remaining} of ${limit} requests left (${credential}${counted})`
}
