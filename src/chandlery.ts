// The server put together: which room gets which options and observer, and in which order things
// start and stop. The one place besides main.ts that knows every room.
import { randomUUID } from 'node:crypto'
import { createAdminApp } from './admin/app.ts'
import { Readiness } from './admin/readiness.ts'
import { BlobCache } from './cache/blob-cache.ts'
import { Downloads } from './cache/downloads.ts'
import { HeldBlobs } from './cache/held-blobs.ts'
import { openManifestRoom } from './cache/manifest-room.ts'
import type { Config } from './config/config.ts'
import { formatListenAddress, type ListenAddress } from './config/listen-address.ts'
import { AccessLog } from './observability/access-log.ts'
import { EventLog } from './observability/event-log.ts'
import type { Logger } from './observability/logger.ts'
import { Metrics } from './observability/metrics.ts'
import { Observer } from './observability/observer.ts'
import { OciError } from './oci/errors.ts'
import { createApp } from './server/app.ts'
import { Connections, type Cut } from './server/connections.ts'
import { drain } from './server/drain.ts'
import type { Faces } from './server/faces.ts'
import { type Ownership, takeOwnership } from './store/owner.ts'
import { openStore, type Store } from './store/store.ts'
import { RegistryClient } from './upstream/client.ts'
import { ConfiguredCredentials } from './upstream/configured-credentials.ts'
import { wholesFor } from './upstream/host-limits.ts'
import { DEFAULT_LIMITS } from './upstream/limits.ts'
import type { UpstreamLimits } from './upstream/limits.ts'
import type { Endpoint } from './upstream/endpoint.ts'
import type { EndpointReport } from './upstream/endpoint-health.ts'
import { Probing } from './upstream/probing.ts'
import type { ProxyEnvironment } from './upstream/proxy.ts'
import { Registries } from './upstream/registries.ts'
import { Resolver } from './upstream/resolver.ts'
import { Upstream } from './upstream/upstream.ts'

export interface ChandleryOptions {
  readonly version: string
  readonly logger: Logger
  /** Of what upstreams may take, other than the default. */
  readonly limits?: Partial<UpstreamLimits>
  /** For hosts that have none of their own. */
  readonly proxies?: ProxyEnvironment
  /** First pause in milliseconds before a source that broke is asked again. */
  readonly retryDelayMs?: number
}

export interface StopOptions {
  /** Ends everything at once: responses are cut. */
  readonly hurry?: AbortSignal
  /** False: no `shutdownDelay`, the directory is not ours any more. */
  readonly delay?: boolean
}

type App = ReturnType<typeof createApp>

/** What there is once the directory is ours. */
interface Open {
  readonly store: Store
  readonly downloads: Downloads
  readonly faces: Faces
  /** Resolves when what was learned is on disk. */
  settle(): Promise<void>
}

/** A blob does not take the last of the space: manifests and links need some. */
const SPARE_BYTES = 1024 * 1024
const SWEEP_EVERY_MS = 3600_000
/** While it stops: a SIGKILL that comes then costs no more than what arrived since. */
const CHECKPOINT_EVERY_MS = 2_000
/** At the end the disk gets so long to take what is left. */
const SETTLE_MS = 3_000
/** What is still read at the end, a file or a scrape, gets so long. */
const LAST_READ_MS = 500

export class Chandlery {
  readonly #config: Config
  readonly #logger: Logger
  readonly #observer: Observer
  readonly #readiness = new Readiness()
  readonly #registries: Registries
  readonly #client: RegistryClient
  readonly #admin: App
  readonly #app: App
  readonly #starting = new AbortController()
  readonly #connections = new Connections()
  readonly #lost = Promise.withResolvers<void>()
  readonly #retryDelayMs: number | undefined
  #started: Promise<void> | undefined
  #ownership: Ownership | undefined
  #probing: Probing | undefined
  #open: Open | undefined
  #sweeping: NodeJS.Timeout | undefined
  #retired: Promise<void> | undefined

  /** Throws where options cannot be used: a certificate that cannot be read, a bad endpoint. */
  constructor(config: Config, options: ChandleryOptions) {
    const { version, logger } = options
    this.#config = config
    this.#retryDelayMs = options.retryDelayMs
    this.#logger = logger
    const metrics = new Metrics({
      version,
      storeUsage: async () => (await this.#open?.store.blobs.usage()) ?? { blobs: 0, bytes: 0 },
      upstreams: {
        endpoints: () => this.#client.health.report(),
        rateLimits: () => this.#client.health.rateLimits.report(),
      },
    })
    this.#observer = new Observer(metrics, new AccessLog(logger), new EventLog(logger))
    const instanceId = `chandlery-${randomUUID()}`
    this.#registries = new Registries(config)
    this.#client = createClient(config, options, { instanceId, observer: this.#observer })
    for (const endpoint of this.#endpoints()) this.#client.health.know(endpoint)
    this.#readiness.missing('store', 'the cache directory is not open yet')
    this.#admin = createAdminApp({
      metrics,
      readiness: this.#readiness,
      details: () => [
        ...this.#observer.keeping.describe(),
        ...[...this.#client.health.report()].map(describeEndpoint),
      ],
    })
    this.#app = createApp({
      registries: this.#registries,
      faces: () => this.#faces(),
      observer: this.#observer,
      logger,
      instanceId,
      clientStallTimeoutMs: config.clientStallTimeoutMs,
      tls: config.tls,
      connections: this.#connections,
    })
  }

  /** Resolves when another server has taken the directory: stop then. */
  get lost(): Promise<void> {
    return this.#lost.promise
  }

  /** The ports listened on; of use where the configuration says 0. */
  get ports(): { readonly api: number; readonly admin: number } {
    return { api: portOf(this.#app), admin: portOf(this.#admin) }
  }

  /** Listens, then waits until the directory is ours, then opens it. Rejects where that cannot be. */
  async start(): Promise<void> {
    this.#started = this.#start()
    await this.#started
  }

  async #start(): Promise<void> {
    const { listen, admin, storage } = this.#config
    await bind(this.#admin, admin.listen, 'admin.listen')
    await bind(this.#app, listen, 'listen')
    const address = formatListenAddress(listen)
    this.#logger.info({ listen: address, admin: formatListenAddress(admin.listen) }, 'listening')
    this.#ownership = await takeOwnership(
      storage.directory,
      { listen: address },
      {
        signal: this.#starting.signal,
        onWaiting: ({ host, pid, listen: at }) => this.#waitFor(`pid ${pid} on ${host}, ${at}`),
        onLost: () => this.#lost.resolve(),
        onError: (error) => this.#observer.storeError('heartbeat', error),
      },
    )
    this.#open = await this.#openStore()
    const { probeMs: everyMs } = this.#config.health
    if (everyMs !== undefined) {
      this.#probing = new Probing({ client: this.#client, endpoints: this.#endpoints(), everyMs })
    }
    this.#readiness.met('store')
    this.#logger.info({ directory: storage.directory }, 'ready')
  }

  /**
   * Ends in order: for `shutdownDelay` requests are still taken, then running responses may end within
   * `shutdownTimeout`, then they are cut and everything is closed. True: no response was cut.
   */
  async stop({ hurry, delay = true }: StopOptions = {}): Promise<boolean> {
    const { shutdownDelayMs, shutdownTimeoutMs } = this.#config
    this.#readiness.missing('running', 'the server is stopping')
    this.#starting.abort(new Error('the server is stopping'))
    // What it is about to take, a port or the directory, would stay taken.
    await this.#started?.catch(() => undefined)
    const delayMs = delay && this.#open ? shutdownDelayMs : 0
    this.#observer.shutdownPhase('delay')
    const downloads = this.#open?.downloads
    const checkpoint = () => void downloads?.checkpoint()
    checkpoint()
    const checkpoints = setInterval(checkpoint, CHECKPOINT_EVERY_MS)
    const cut = await drain({
      connections: this.#connections,
      delayMs,
      timeoutMs: shutdownTimeoutMs,
      hurry,
      onClosed: (running) => this.#closed(running),
      meanwhile: () => this.#retireEarly(),
    })
    clearInterval(checkpoints)
    this.#noteCut(cut)
    await this.#retire()
    // Of those that are over, the files that were still read.
    await within(LAST_READ_MS, async () => void (await downloads?.stop()))
    await this.#connections.closed()
    await this.#app.close()
    await closeAdmin(this.#admin)
    return cut.responses + cut.refused === 0
  }

  #closed(running: number): void {
    this.#observer.shutdownPhase('responses')
    const { shutdownTimeoutMs: timeoutMs } = this.#config
    this.#logger.info({ running, timeoutMs }, 'no new connections: running responses may end')
  }

  #noteCut(cut: Cut): void {
    this.#observer.responsesCut(cut)
    if (cut.responses + cut.refused === 0) return
    this.#logger.warn(cut, 'shutdownTimeout has passed: the responses that still ran were cut')
  }

  /** What runs reads files that are open already: the next server may have the directory. */
  #retireEarly(): void {
    const { downloads } = this.#open ?? {}
    if (!downloads || downloads.isWriting || !this.#connections.isSettled) return
    void this.#retire({ early: true })
  }

  #retire({ early = false } = {}): Promise<void> {
    this.#retired ??= this.#giveBack(early)
    return this.#retired
  }

  /** Ends all that writes, then gives the directory to the next. Never rejects. */
  async #giveBack(early: boolean): Promise<void> {
    this.#observer.shutdownPhase('storage')
    const open = this.#open
    this.#open = undefined // who comes now is told to ask again
    this.#probing?.[Symbol.dispose]()
    clearInterval(this.#sweeping)
    const isSettled = await within(SETTLE_MS, () => this.#settle(open, early))
    // Where the claim stands, the next server finds that its owner is dead once it is.
    if (isSettled) await this.#ownership?.release().catch(this.#notReleased)
    else this.#notReleased(new Error(`the disk took longer than ${SETTLE_MS} ms at the end`))
  }

  async #settle(open: Open | undefined, early: boolean): Promise<void> {
    try {
      const left = early ? open?.downloads.refuse() : await open?.downloads.stop()
      if (left) this.#logger.info({ downloads: left }, 'what downloads have is left for the next')
      await this.#client.close()
      await open?.settle()
      open?.store.close()
    } catch (error) {
      this.#observer.unexpectedError('stop', error)
    }
  }

  readonly #notReleased = (error: unknown): void => {
    this.#observer.storeError('release the directory', error)
  }

  #waitFor(owner: string): void {
    const { directory } = this.#config.storage
    const reason = `${directory} belongs to another server (${owner}); waiting until it ends`
    this.#readiness.missing('store', reason)
    this.#logger.warn({ directory, owner }, reason)
  }

  /** Of the registries that are listed; with "*" there may be others. */
  #endpoints(): Endpoint[] {
    const endpoints = this.#registries.names.flatMap((name) => this.#registries.endpoints(name))
    return [...new Map(endpoints.map((endpoint) => [endpoint.key, endpoint])).values()]
  }

  #faces(): Faces {
    if (this.#open) return this.#open.faces
    throw new OciError('UNAVAILABLE', this.#readiness.reasons.join('; '), {
      status: 503,
      headers: { 'retry-after': '5' },
    })
  }

  // What nobody came back for, now and every hour.
  #sweep(store: Store): void {
    const sweep = () => {
      store.blobs.removePartials(this.#config.fetch.partialTtlMs).catch((error: unknown) => {
        this.#observer.storeError('remove partial downloads', error)
      })
    }
    sweep()
    this.#sweeping = setInterval(sweep, SWEEP_EVERY_MS).unref()
  }

  async #openStore(): Promise<Open> {
    const { storage, freshness, configs: hosts, dockerConfig } = this.#config
    const observer = this.#observer
    const store = await openStore({ directory: storage.directory, observer })
    void store.blobs.usage() // begins to count in the background
    this.#sweep(store)
    const upstream = new Upstream({ registries: this.#registries, client: this.#client, observer })
    const room = openManifestRoom({ upstream, store, observer, freshness })
    const downloads = new Downloads({
      observer,
      fetch: this.#config.fetch,
      createIngest: (digest) => store.blobs.ingest(digest),
      hasRoom: (bytes) => hasRoom(store, bytes),
      ...(this.#retryDelayMs !== undefined && { retryDelayMs: this.#retryDelayMs }),
    })
    const { access, grants, negative } = room
    const blobs = new BlobCache({
      held: new HeldBlobs({ blobs: store.blobs, observer }),
      access,
      grants,
      upstream,
      downloads,
      negative,
      negativeTtlMs: freshness.negativeTtlMs,
    })
    const credentials = new ConfiguredCredentials({
      hosts,
      dockerConfigPaths: dockerConfig,
      rateLimits: this.#client.health.rateLimits,
    })
    const faces = {
      manifests: room.manifests,
      blobs,
      tags: room.tagLister,
      referrers: room.referrers,
      catalog: room.catalog,
      caller: { credentials },
    }
    return { store, downloads, faces, settle: () => room.drain() }
  }
}

// A connection without a request would keep it open; alive is shown until here.
async function closeAdmin(admin: App): Promise<void> {
  const timer = setTimeout(() => admin.server.closeAllConnections(), LAST_READ_MS)
  await admin.close()
  clearTimeout(timer)
}

/** True: done in time. */
async function within(ms: number, work: () => Promise<void>): Promise<boolean> {
  const late = Promise.withResolvers<false>()
  const timer = setTimeout(() => late.resolve(false), ms)
  try {
    return await Promise.race([work().then(() => true), late.promise])
  } finally {
    clearTimeout(timer)
  }
}

// Where nobody can say, it is tried: the write will tell.
async function hasRoom(store: Store, bytes: number): Promise<boolean> {
  const space = await store.blobs.space().catch(() => undefined)
  return space === undefined || bytes + SPARE_BYTES <= space.freeBytes
}

function createClient(
  { configs: hosts, timeouts, dns }: Config,
  { version, limits, proxies }: ChandleryOptions,
  { instanceId, observer }: { instanceId: string; observer: Observer },
): RegistryClient {
  const configured = {
    ...DEFAULT_LIMITS,
    connectTimeoutMs: timeouts.connectMs,
    headersTimeoutMs: timeouts.firstByteMs,
    bodyStallMs: timeouts.stallMs,
  }
  return new RegistryClient({
    version,
    instanceId,
    hosts,
    limits: { ...configured, ...wholesFor(configured), ...limits },
    observer,
    resolver: new Resolver(dns),
    proxies,
  })
}

function describeEndpoint({ endpoint, state, message }: EndpointReport): string {
  return message === undefined ? `${endpoint}: ${state}` : `${endpoint}: ${state} (${message})`
}

async function bind(app: App, address: ListenAddress, key: string): Promise<void> {
  const { host = '::', port } = address
  try {
    await app.listen({ host, port })
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? CAUSES[String(error.code)] : undefined
    if (why === undefined) throw error
    const text = `${formatListenAddress(address)} ${why}: set ${key} to another address`
    throw new Error(text, { cause: error })
  }
}

function portOf(app: App): number {
  const address = app.server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

const CAUSES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is in use by another process',
  EACCES: 'may not be used by this user (ports below 1024 need a right of their own)',
  EADDRNOTAVAIL: 'is no address of this machine',
  ENOTFOUND: 'cannot be resolved',
  EAI_AGAIN: 'cannot be resolved',
}
