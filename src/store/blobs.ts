// Blobs by digest: held ones to read, new ones to fill. Which repository may read one is links.ts.

import type { Digest } from '../oci/digest.ts'
import type { StorageDriver, StoredObject, StoreObserver } from './driver.ts'
import { asError } from './errno.ts'
import type { Ingest } from './ingest.ts'
import { LastUse } from './last-use.ts'
import { blobKey } from './layout.ts'
import { Partials } from './partials.ts'
import type { Removed } from './partials.ts'
import { Usage } from './usage.ts'
import type { UsageCount } from './usage.ts'

export interface BlobsOptions {
  readonly driver: StorageDriver
  /** A local directory that exists, on the driver's file system where the driver has one. */
  readonly ingestDirectory: string
  readonly observer?: StoreObserver | undefined
}

export class Blobs {
  readonly #driver: StorageDriver
  readonly #partials: Partials
  readonly #usage: Usage
  readonly #lastUse: LastUse

  constructor(options: BlobsOptions) {
    this.#driver = options.driver
    const report = (operation: string) => (error: unknown) =>
      options.observer?.storeError(operation, asError(error))
    this.#partials = new Partials(options.ingestDirectory, report('remove partial'))
    this.#usage = new Usage(options.driver, report('count blobs'))
    this.#lastUse = new LastUse(options.driver, report('touch blob'))
  }

  /** A held blob, or undefined; also notes that it was used now, at most once a minute. */
  async open(digest: Digest): Promise<StoredObject | undefined> {
    const object = await this.#driver.open(blobKey(digest))
    if (object !== undefined) this.#lastUse.note(blobKey(digest))
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
    return await this.#partials.open(digest, (file, size) => this.#adopt(digest, file, size))
  }

  /** Removes half-filled files that are not open, and were not for `olderThanMs` milliseconds. 0: all of them. */
  async removePartials(olderThanMs: number): Promise<Removed> {
    return await this.#partials.removeOlder(olderThanMs)
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

  /** What is kept, as far as it has been counted: the first count runs in the background (`complete`). */
  usage(): Promise<UsageCount> {
    void this.#usage.count()
    return Promise.resolve(this.#usage.current())
  }

  /** Ends a first count that still runs. */
  close(): void {
    this.#usage.stop()
  }

  async #adopt(digest: Digest, file: string, size: number): Promise<void> {
    const key = blobKey(digest)
    await this.#usage.during(key, async () => {
      const held = await this.#driver.stat(key)
      // A verified file takes the place of one that cannot be right; an equal one stays.
      await this.#driver.adopt(key, file, { replace: held !== undefined && held.size !== size })
      return { blobs: held === undefined ? 1 : 0, bytes: size - (held?.size ?? 0) }
    })
    await this.#partials.discard(digest) // of another download of the same digest
  }
}
