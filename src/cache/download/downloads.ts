// The downloads that run, one per digest however many want it, and the digests whose bytes were
// wrong of late. (One per key, to be exact: what that is besides the digest, caller.ts says.)
import { LRUCache } from 'lru-cache'
import type { Digest } from '../../oci/digest.ts'
import { OciError } from '../../oci/errors.ts'
import type { Ingest, LeaveOptions } from '../../store/ingest/ingest.ts'
import type { Source } from '../../upstream/face/source.ts'
import { Download } from './download.ts'
import type { DownloadFetchOptions, DownloadObserver } from './options.ts'
import { PassingMemory } from '../bypass/memory-budget.ts'

/** A client that was given wrong bytes comes back for the rest within this time, or not at all. */
const SUSPECT_MS = 10 * 60_000
const MOST_SUSPECTS = 10_000
/** Of one blob that cannot be kept: one more joins the last, and waits there for its turn. */
const MOST_PASSING = 4

export interface DownloadsOptions {
  readonly observer: DownloadObserver
  readonly createIngest: (digest: Digest) => Promise<Ingest>
  /** Whether so many bytes can be kept, besides what is on its way; default: yes. Never rejects. */
  readonly hasRoom?: (bytes: number) => Promise<boolean>
  /** First pause in milliseconds before a source that broke is asked again. */
  readonly retryDelayMs?: number
  readonly fetch?: Partial<DownloadFetchOptions>
  /** That of all blobs that pass through. Default: 256 MiB. */
  readonly memory?: PassingMemory
}

const MIB = 1024 * 1024

export const DEFAULT_FETCH: DownloadFetchOptions = {
  pieceBytes: 8 * MIB,
  connections: 4,
  maxConnections: 16,
  fill: 'onFullRead',
  idleMs: 60_000,
}

/** A blob that somebody wants. */
export interface WantedBlob {
  readonly digest: Digest
  /** The registry that named it. */
  readonly registry: string
  readonly sources: readonly Source[]
  /** What the manifest says, in bytes. */
  readonly size: number | undefined
  /** Default: the digest. */
  readonly key?: string
}

export class Downloads {
  readonly #options: DownloadsOptions
  /** By key, the one that was begun last. */
  readonly #running = new Map<string, Download>()
  /** Those that nobody can join are among them. */
  readonly #all = new Map<Download, string>()
  /** Those that are over, with readers that still hold their files. */
  readonly #lingering = new Set<Download>()
  readonly #suspects = new LRUCache<Digest, true>({ max: MOST_SUSPECTS, ttl: SUSPECT_MS })
  readonly #memory: PassingMemory
  #stopped = false

  constructor(options: DownloadsOptions) {
    this.#options = options
    this.#memory = options.memory ?? new PassingMemory()
  }

  /** One that can be joined. */
  get(key: string): Download | undefined {
    const download = this.#running.get(key)
    if (download === undefined || download.isOver) return undefined
    return download.isPast && this.#isOneMore(key) ? undefined : download
  }

  /** The running download of this key, with these sources added, or a new one. */
  start({ digest, registry, sources, size, key = digest }: WantedBlob): Download {
    if (this.#stopped) throw new OciError('UNAVAILABLE', 'the server is shutting down')
    const running = this.get(key)
    if (running) {
      running.join(sources)
      return running
    }
    const { observer, retryDelayMs = 200, fetch, createIngest, hasRoom } = this.#options
    const download: Download = new Download({
      digest,
      registry,
      sources,
      size,
      observer,
      retryDelayMs,
      createIngest,
      memory: this.#memory,
      hasRoom: hasRoom && ((bytes) => hasRoom(bytes + this.#onItsWay(download))),
      fetch: { ...DEFAULT_FETCH, ...fetch },
      suspect: this.#isSuspect(digest, key),
    })
    this.#running.set(key, download)
    this.#all.set(download, key)
    void download.ended.then(() => this.#ended(download, key))
    return download
  }

  /** One runs, or broke off and its file is left for later once its readers are gone. */
  get isWriting(): boolean {
    return this.#all.size > 0 || [...this.#lingering].some(({ failure }) => failure !== undefined)
  }

  /**
   * What they have is made durable and noted for a later process: one after the other, as who reads held
   * content needs the disk as well. Never rejects: failures are reported.
   */
  async checkpoint(): Promise<void> {
    for (const download of this.#all.keys()) await download.checkpoint()
  }

  /** None is being made, verified or kept: that is over soon, and better waited for. */
  get canHandOver(): boolean {
    return [...this.#all.keys()].every(({ isFilling }) => isFilling)
  }

  /**
   * For when another server gets the directory: none can begin, and none writes. Those that run go on through
   * memory for who reads. Resolves with how many run; never rejects.
   */
  async handOver(options: LeaveOptions = {}): Promise<number> {
    this.#stopped = true
    const all = [...this.#all.keys(), ...this.#lingering]
    await Promise.all(all.map((download) => download.handOver(options)))
    return this.#all.size
  }

  /** Ends all of them, for shutdown: none can begin, none has a file open. Resolves with how many ran. */
  async stop(): Promise<number> {
    this.#stopped = true
    const running = this.#all.size
    const all = [...this.#all.keys(), ...this.#lingering]
    await Promise.all(all.map((download) => download.stop()))
    return running
  }

  #isOneMore(key: string): boolean {
    return [...this.#all.values()].filter((each) => each === key).length < MOST_PASSING
  }

  /** What the others will still write, in bytes, as far as it is known. */
  #onItsWay(but: Download): number {
    const others = [...this.#all.keys()].filter((each) => each !== but)
    return others.reduce((sum, { missingBytes }) => sum + missingBytes, 0)
  }

  // One that just failed may not have got here: a client that it cut is back sooner.
  #isSuspect(digest: Digest, key: string): boolean {
    return this.#suspects.has(digest) || this.#running.get(key)?.suspect === true
  }

  #ended(download: Download, key: string): void {
    const { digest } = download
    this.#all.delete(download)
    this.#lingering.add(download)
    void download.closed.then(() => this.#lingering.delete(download))
    if (download.suspect) this.#suspects.set(digest, true)
    else if (!download.failure) this.#suspects.delete(digest)
    if (this.#running.get(key) === download) this.#running.delete(key)
  }
}
