// The running downloads, one per digest however many clients want it, and the digests whose bytes were
// wrong lately. (Strictly one per key: shared-key.ts says what that is besides the digest.)
import { LRUCache } from 'lru-cache'
import type { Digest } from '../../oci/digest.ts'
import { OciError } from '../../oci/errors.ts'
import type { Ingest, LeaveOptions } from '../../store/ingest/ingest.ts'
import type { Source } from '../../upstream/face/source.ts'
import { Download } from './download.ts'
import type { DownloadFetchOptions, DownloadObserver } from './options.ts'
import { MemoryBudget } from '../bypass/memory-budget.ts'

/** A client that was given wrong bytes comes back for the rest within this time, in milliseconds, if at all. */
const SUSPECT_MS = 10 * 60_000
const MAX_SUSPECTS = 10_000
/** At most this many downloads of one blob that cannot be kept; later clients join the newest. */
const MAX_BYPASSING = 4

export interface DownloadsOptions {
  readonly observer: DownloadObserver
  readonly createIngest: (digest: Digest) => Promise<Ingest>
  /** Reports whether so many bytes can be kept, besides what is on its way. Default: yes. Never rejects. */
  readonly hasRoom?: (bytes: number) => Promise<boolean>
  /** The first pause before a source that broke is asked again, in milliseconds. */
  readonly retryDelayMs?: number
  readonly fetch?: Partial<DownloadFetchOptions>
  /** The memory of all blobs that bypass the disk. */
  readonly memory?: MemoryBudget
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
  /** The registry whose manifest named it. */
  readonly registry: string
  readonly sources: readonly Source[]
  /** What a manifest claims, in bytes; undefined if no manifest names the blob. */
  readonly size: number | undefined
  /** Default: the digest. */
  readonly key?: string
}

export class Downloads {
  readonly #options: DownloadsOptions
  /** The download that was begun last, by key. */
  readonly #running = new Map<string, Download>()
  /** All of them, also those that cannot be joined any more, with their keys. */
  readonly #all = new Map<Download, string>()
  /** Downloads that are over, whose readers still hold their files. */
  readonly #lingering = new Set<Download>()
  readonly #suspects = new LRUCache<Digest, true>({ max: MAX_SUSPECTS, ttl: SUSPECT_MS })
  readonly #memory: MemoryBudget
  #stopped = false

  constructor(options: DownloadsOptions) {
    this.#options = options
    this.#memory = options.memory ?? new MemoryBudget()
  }

  /** Returns the download that can be joined. */
  get(key: string): Download | undefined {
    const download = this.#running.get(key)
    if (download === undefined || download.isOver) return undefined
    return download.isPast && this.#isOneMore(key) ? undefined : download
  }

  /** Returns the running download of this key, with these sources added, or a new one. */
  start({ digest, registry, sources, size, key = digest }: WantedBlob): Download {
    if (this.#stopped) throw new OciError('UNAVAILABLE', 'the server is shutting down')
    const running = this.get(key)
    if (running) {
      running.join(sources, size)
      return running
    }
    const { observer, retryDelayMs = 200, fetch, createIngest, hasRoom } = this.#options
    const download: Download = new Download({
      digest,
      registry,
      sources,
      claimedSize: size,
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

  /** Reports whether one runs, or broke off and leaves its file for later once its readers are gone. */
  get isWriting(): boolean {
    return this.#all.size > 0 || [...this.#lingering].some(({ failure }) => failure !== undefined)
  }

  /**
   * Makes what they have durable and notes it for a later process, one after the other: readers of held
   * content need the disk as well. Never rejects: failures are reported.
   */
  async checkpoint(): Promise<void> {
    for (const download of this.#all.keys()) await download.checkpoint()
  }

  /** Reports whether none is being made, verified or kept: that is over soon, and better waited for. */
  get canHandOver(): boolean {
    return [...this.#all.keys()].every(({ isFilling }) => isFilling)
  }

  /**
   * Stops writing because another server gets the directory: none can begin, and those that run bypass the
   * disk for their readers. Resolves with how many run; never rejects.
   */
  async handOver(options: LeaveOptions = {}): Promise<number> {
    this.#stopped = true
    const all = [...this.#all.keys(), ...this.#lingering]
    await Promise.all(all.map((download) => download.handOver(options)))
    return this.#all.size
  }

  /** Ends all of them for shutdown: none can begin, and none has a file open. Resolves with how many ran. */
  async stop(): Promise<number> {
    this.#stopped = true
    const running = this.#all.size
    const all = [...this.#all.keys(), ...this.#lingering]
    await Promise.all(all.map((download) => download.stop()))
    return running
  }

  #isOneMore(key: string): boolean {
    return [...this.#all.values()].filter((each) => each === key).length < MAX_BYPASSING
  }

  /** Returns how many bytes the others will still write, as far as that is known. */
  #onItsWay(but: Download): number {
    const others = [...this.#all.keys()].filter((each) => each !== but)
    return others.reduce((sum, { missingBytes }) => sum + missingBytes, 0)
  }

  // A download that failed a moment ago may not have ended yet: a client that it cut can be back sooner.
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
