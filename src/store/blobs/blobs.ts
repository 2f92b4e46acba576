// Blobs by digest: opens held ones for reading and creates ingests for new ones. Which repository
// may read a blob is recorded in links.ts.

import { LRUCache } from 'lru-cache'
import { algorithmOf } from '../../oci/digest.ts'
import type { Digest } from '../../oci/digest.ts'
import type { StorageDriver, StoredObject, StoreObserver } from '../driver/driver.ts'
import { asError, storageTrouble } from '../disk/errno.ts'
import type { Adopt, Ingest } from '../ingest/ingest.ts'
import { FreeSpace } from './free-space.ts'
import { LastUse } from '../records/last-use.ts'
import { blobKey } from '../layout.ts'
import { digestOfObject } from './object-digest.ts'
import { Partials } from '../ingest/partials.ts'
import type { Removed } from '../ingest/partials.ts'
import { Quarantine } from './quarantine.ts'
import type { QuarantineLimits } from './quarantine.ts'
import { Usage } from './usage.ts'
import type { UsageCount } from './usage.ts'
import type { WriteGate } from '../disk/write-gate.ts'

export interface BlobsOptions {
  readonly driver: StorageDriver
  /**
   * An existing local directory. With the filesystem driver it must be on that driver's file
   * system.
   */
  readonly ingestDirectory: string
  readonly observer?: StoreObserver | undefined
  /** Must be the driver's gate. Default: a gate that never closes. */
  readonly gate?: WriteGate
  /** Default: 16 blobs, 1 GiB. */
  readonly quarantine?: QuarantineLimits
}

export interface VerifyOptions {
  /** An open object of this digest; it stays open. Default: the held blob is opened. */
  readonly object?: StoredObject
  readonly signal?: AbortSignal
}

const ADOPTIONS_REMEMBERED = 20_000

export class Blobs {
  readonly #driver: StorageDriver
  readonly #partials: Partials
  readonly #usage: Usage
  readonly #lastUse: LastUse
  readonly #quarantine: Quarantine
  readonly #space: FreeSpace
  /** A logical clock, incremented by each commit. The two maps below hold its values. */
  #adoptions = 0
  readonly #adoptedAt = new LRUCache<Digest, number>({ max: ADOPTIONS_REMEMBERED })
  readonly #openedAt = new WeakMap<StoredObject, number>()

  constructor(options: BlobsOptions) {
    this.#driver = options.driver
    this.#space = new FreeSpace(options.driver, options.ingestDirectory)
    this.#quarantine = new Quarantine(options.driver, options.quarantine)
    const report = (operation: string) => (error: unknown) =>
      options.observer?.storeError(operation, asError(error))
    this.#partials = new Partials(options.ingestDirectory, report('remove partial'), options.gate)
    this.#usage = new Usage(options.driver, report('count blobs'))
    this.#lastUse = new LastUse(options.driver, report('touch blob'))
  }

  /** Opens a held blob, or returns undefined. Records the use, at most once a minute. */
  async open(digest: Digest): Promise<StoredObject | undefined> {
    const openedAt = this.#adoptions
    const object = await this.#driver.open(blobKey(digest))
    if (object === undefined) return undefined
    this.#openedAt.set(object, openedAt)
    this.#lastUse.note(blobKey(digest))
    return object
  }

  /**
   * Returns the size in bytes of the held blob, for the caller to compare with the size it knows.
   */
  async stat(digest: Digest): Promise<{ size: number } | undefined> {
    const entry = await this.#driver.stat(blobKey(digest))
    return entry === undefined ? undefined : { size: entry.size }
  }

  /**
   * Finds the partial files that an earlier process left, and removes the unusable ones. Call it
   * once, at start.
   */
  async loadPartials(): Promise<void> {
    await this.#partials.load()
  }

  /**
   * Opens an ingest: a local file that becomes the blob when it is committed. It starts with the
   * bytes of a suspended ingest of this digest, if there is one. Of several open ingests of a
   * digest only the first can be suspended.
   */
  async ingest(digest: Digest): Promise<Ingest> {
    return await this.#partials.open(digest, (file, size, options) =>
      this.#adopt(digest, file, size, options),
    )
  }

  /**
   * Removes partial files that are not open and have not been for `olderThanMs` milliseconds; 0
   * removes all that are not open. Stops early when the signal fires.
   */
  async removePartials(olderThanMs: number, signal?: AbortSignal): Promise<Removed> {
    return await this.#partials.removeOlder(olderThanMs, signal)
  }

  async remove(digest: Digest): Promise<void> {
    const key = blobKey(digest)
    this.#lastUse.forget(key)
    await this.#usage.during(key, async () => {
      const held = await this.#driver.stat(key)
      await this.#driver.remove(key)
      return held === undefined ? { blobs: 0, bytes: 0 } : { blobs: -1, bytes: -held.size }
    })
  }

  /** Reads and hashes a held blob. A blob that the disk cannot read counts as wrong. */
  async verify(digest: Digest, options: VerifyOptions = {}): Promise<'good' | 'wrong' | 'absent'> {
    const object = options.object ?? (await this.#driver.open(blobKey(digest)))
    if (object === undefined) return 'absent'
    try {
      const actual = await digestOfObject(object, algorithmOf(digest), options.signal)
      return actual === digest ? 'good' : 'wrong'
    } catch (error) {
      if (storageTrouble(error) === 'broken') return 'wrong'
      throw error
    } finally {
      if (object !== options.object) await object.close()
    }
  }

  /**
   * Moves a damaged blob into quarantine. `seen` is the object from `open` that proved damaged: if
   * a new blob has been committed since it was opened, that one stays. Objects that are already
   * open stay readable.
   */
  async quarantine(digest: Digest, seen?: StoredObject): Promise<void> {
    const key = blobKey(digest)
    const seenAt = seen && this.#openedAt.get(seen)
    await this.#usage.during(key, async () => {
      const held = await this.#driver.stat(key)
      const isNewer = seenAt !== undefined && (this.#adoptedAt.get(digest) ?? 0) > seenAt
      if (held === undefined || isNewer) return { blobs: 0, bytes: 0 }
      this.#lastUse.forget(key)
      await this.#quarantine.take(digest, held.size)
      return { blobs: -1, bytes: -held.size }
    })
  }

  /** Returns how many bytes can still be written, at most a second out of date. */
  async space(): Promise<{ freeBytes: number }> {
    return { freeBytes: await this.#space.bytes() }
  }

  /**
   * Returns the count so far. The first call starts the first count in the background (see
   * `complete`).
   */
  usage(): Promise<UsageCount> {
    void this.#usage.count()
    return Promise.resolve(this.#usage.current())
  }

  /** Stops the first count if it is still running. */
  close(): void {
    this.#usage.stop()
  }

  async #adopt(digest: Digest, ...[file, size, options]: Parameters<Adopt>): Promise<void> {
    const key = blobKey(digest)
    await this.#usage.during(key, async () => {
      const held = await this.#driver.stat(key)
      // A held file of another size cannot be right, so the verified one replaces it.
      const replace = options.replace === true || (held !== undefined && held.size !== size)
      await this.#driver.adopt(key, file, { replace })
      if (replace || held === undefined) this.#adoptedAt.set(digest, ++this.#adoptions)
      return { blobs: held === undefined ? 1 : 0, bytes: size - (held?.size ?? 0) }
    })
    await this.#partials.discard(digest) // a partial file that another download of this digest left
  }
}
