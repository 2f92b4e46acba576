// Blobs by digest: held ones to read, new ones to fill. Which repository may read one is links.ts.

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
  /** A local directory that exists, on the driver's file system where the driver has one. */
  readonly ingestDirectory: string
  readonly observer?: StoreObserver | undefined
  /** The same as the driver's. Default: one that stays open. */
  readonly gate?: WriteGate
  /** Default: 16 blobs, 1 GiB. */
  readonly quarantine?: QuarantineLimits
}

export interface VerifyOptions {
  /** An open one of this digest, which stays open; default: the one that is held. */
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
  /** When a blob was last committed and when an object was opened, both by this count. */
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

  /** A held blob, or undefined; also notes that it was used now, at most once a minute. */
  async open(digest: Digest): Promise<StoredObject | undefined> {
    const openedAt = this.#adoptions
    const object = await this.#driver.open(blobKey(digest))
    if (object === undefined) return undefined
    this.#openedAt.set(object, openedAt)
    this.#lastUse.note(blobKey(digest))
    return object
  }

  /** The size in bytes of what is kept: the caller compares it with the size it knows. */
  async stat(digest: Digest): Promise<{ size: number } | undefined> {
    const entry = await this.#driver.stat(blobKey(digest))
    return entry === undefined ? undefined : { size: entry.size }
  }

  /** At start: finds what downloads of an earlier process left half-filled, and removes what is no use. */
  async loadPartials(): Promise<void> {
    await this.#partials.load()
  }

  /**
   * A local file that becomes the blob when it is committed. It has what an earlier one was suspended with;
   * only one open ingest of a digest can be suspended, the first.
   */
  async ingest(digest: Digest): Promise<Ingest> {
    return await this.#partials.open(digest, (file, size, options) =>
      this.#adopt(digest, file, size, options),
    )
  }

  /**
   * Removes half-filled files that are not open, and were not for `olderThanMs` milliseconds. 0: all of them.
   * Goes no further once the signal fires.
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

  /** Reads a held blob and hashes it, one slice after the other. Where the disk cannot read it, it is wrong. */
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
   * Takes a damaged blob out of what is held and keeps it aside. `seen`: what `open` gave and proved damaged;
   * if another has taken its place since, that one stays. Open ones can be read on.
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

  /** What can still be written, in bytes, as of a second ago at most. */
  async space(): Promise<{ freeBytes: number }> {
    return { freeBytes: await this.#space.bytes() }
  }

  /** What is kept, as far as it has been counted: the first count runs in the background (`complete`). */
  usage(): Promise<UsageCount> {
    void this.#usage.count()
    return Promise.resolve(this.#usage.current())
  }

  /** Ends a first count that still runs. */
  close(): void {
    this.#usage.stop()
  }

  async #adopt(digest: Digest, ...[file, size, options]: Parameters<Adopt>): Promise<void> {
    const key = blobKey(digest)
    await this.#usage.during(key, async () => {
      const held = await this.#driver.stat(key)
      // A verified file takes the place of one that cannot be right; an equal one stays.
      const replace = options.replace === true || (held !== undefined && held.size !== size)
      await this.#driver.adopt(key, file, { replace })
      if (replace || held === undefined) this.#adoptedAt.set(digest, ++this.#adoptions)
      return { blobs: held === undefined ? 1 : 0, bytes: size - (held?.size ?? 0) }
    })
    await this.#partials.discard(digest) // of another download of the same digest
  }
}
