// Opens held blobs and decides whether their files can be trusted. Only the digest shows that a
// file is damaged. A size in a manifest that differs is merely a reason to hash the file again,
// since anybody may push a manifest. A damaged blob is quarantined and fetched again: damage to the
// disk costs a cache entry, never a pull.
import { LRUCache } from 'lru-cache'
import type { Digest } from '../../oci/digest.ts'
import type { Blobs } from '../../store/blobs/blobs.ts'
import type { StoredObject } from '../../store/driver/driver.ts'
import { storageTrouble } from '../../store/disk/errno.ts'
import { TruncatedContent } from '../content.ts'
import type { CacheObserver } from '../observer.ts'

export interface HeldBlobsOptions {
  readonly blobs: Pick<Blobs, 'open' | 'stat' | 'verify' | 'quarantine'>
  readonly observer: Pick<CacheObserver, 'storeError'>
  /** A blob is hashed again on one in this many reads, at random. Default: 100. */
  readonly sampleEvery?: number | undefined
  readonly random?: () => number
}

type Found = 'good' | 'wrong' | 'absent'

/**
 * A sampled blob of up to this size is hashed before it is sent, a larger one while it is being
 * sent.
 */
const CHECKED_FIRST_BYTES = 32 * 1024 * 1024
/** How long a blob that was found good is not sampled again. */
const TRUSTED_MS = 24 * 3600_000
const MAX_TRUSTED = 50_000
const MAX_DISTRUSTED = 10_000

export class HeldBlobs {
  readonly #options: HeldBlobsOptions
  /** The sizes of the blobs that were hashed and found good. */
  readonly #trusted = new LRUCache<Digest, number>({ max: MAX_TRUSTED, ttl: TRUSTED_MS })
  /** Damaged blobs that could not be quarantined: they are hashed on each read. */
  readonly #distrusted = new LRUCache<Digest, true>({ max: MAX_DISTRUSTED })
  /** The running checks, by digest and size. Requests that need the same check share it. */
  readonly #checks = new Map<string, Promise<Found | undefined>>()
  #isSampling = false

  constructor(options: HeldBlobsOptions) {
    this.#options = options
  }

  /** Opens a held blob without checking it. Call `isSound` before its bytes are served. */
  open(digest: Digest): Promise<StoredObject | undefined> {
    return this.#tried('open blob', () => this.#options.blobs.open(digest))
  }

  /**
   * Returns the size of a held blob's file in bytes. Call `isSizeSound` before it is sent to a
   * client.
   */
  async size(digest: Digest): Promise<number | undefined> {
    return (await this.#tried('stat blob', () => this.#options.blobs.stat(digest)))?.size
  }

  /**
   * Reports whether an open blob may be served. `claimedSize` is the size in a manifest that names
   * the blob, if there is one. This may read the whole file, so call it only for requesters that
   * may read the blob.
   */
  async isSound(
    digest: Digest,
    object: StoredObject,
    claimedSize: number | undefined,
  ): Promise<boolean> {
    if (this.#isDoubtful(digest, object.size, claimedSize)) {
      return (await this.#check(digest, object)) === 'good'
    }
    if (!this.#isSampled(digest)) return true
    // Set this in the same tick as the check above, or two samples could run at once.
    this.#isSampling = true
    if (object.size <= CHECKED_FIRST_BYTES) return (await this.#sample(digest, object)) !== 'wrong'
    void this.#sample(digest)
    return true
  }

  /**
   * Reports whether `size`, the size of a held blob's file, is the size of the blob. As `isSound`.
   */
  async isSizeSound(
    digest: Digest,
    size: number,
    claimedSize: number | undefined,
  ): Promise<boolean> {
    if (claimedSize === undefined || !this.#isDoubtful(digest, size, claimedSize)) return true
    const object = await this.open(digest)
    if (object === undefined) return false
    try {
      return (await this.#check(digest, object)) === 'good' && object.size === size
    } finally {
      await this.close(object)
    }
  }

  /**
   * Handles a failed read of an open blob. Quarantines the blob if its file is at fault, else only
   * reports.
   */
  async readFailed(digest: Digest, object: StoredObject, why: unknown): Promise<void> {
    const isDamaged = why instanceof TruncatedContent || storageTrouble(why) === 'broken'
    if (isDamaged) await this.damaged(digest, object, why)
    else this.#options.observer.storeError('read blob', why)
  }

  /** Reports and quarantines a blob that cannot be read or has wrong bytes. */
  async damaged(digest: Digest, object: StoredObject | undefined, why: unknown): Promise<void> {
    this.#trusted.delete(digest)
    const { blobs, observer } = this.#options
    observer.storeError('damaged blob', new Error(`held blob ${digest} is damaged`, { cause: why }))
    this.#distrusted.set(digest, true)
    const isAside = await this.#tried('quarantine', async () => {
      await blobs.quarantine(digest, object)
      return true
    })
    if (isAside) this.#distrusted.delete(digest)
  }

  /**
   * Reports whether the file must be hashed: it was found damaged before, or its size is not the
   * known one. A file that was never checked and has no claimed size is doubtful too, because it
   * may be too short.
   */
  #isDoubtful(digest: Digest, size: number, claimedSize: number | undefined): boolean {
    if (this.#distrusted.has(digest)) return true
    const goodSize = this.#trusted.get(digest)
    return (goodSize ?? claimedSize) !== size
  }

  // One sample at a time, because hashing a blob is expensive.
  #isSampled(digest: Digest): boolean {
    const { sampleEvery = 100, random = Math.random } = this.#options
    return !this.#isSampling && !this.#trusted.has(digest) && random() * sampleEvery < 1
  }

  /**
   * Hashes `given`, or opens the blob if the response, which closes its own object, does not wait.
   */
  async #sample(digest: Digest, given?: StoredObject): Promise<Found | undefined> {
    try {
      const object = given ?? (await this.open(digest))
      if (object === undefined) return 'absent'
      try {
        return await this.#check(digest, object)
      } finally {
        if (given === undefined) await this.close(object)
      }
    } finally {
      this.#isSampling = false
    }
  }

  /**
   * Hashes a blob, or joins the running check. Returns undefined if it cannot be read at the
   * moment.
   */
  async #check(digest: Digest, object: StoredObject): Promise<Found | undefined> {
    const key = `${digest} ${object.size}`
    const running = this.#checks.get(key)
    if (running !== undefined) return running
    const check = this.#hash(digest, object).finally(() => this.#checks.delete(key))
    this.#checks.set(key, check)
    return check
  }

  async #hash(digest: Digest, object: StoredObject): Promise<Found | undefined> {
    const { blobs } = this.#options
    const found = await this.#tried('verify blob', () => blobs.verify(digest, { object }))
    if (found === 'good') {
      this.#trusted.set(digest, object.size)
      this.#distrusted.delete(digest)
    }
    if (found === 'wrong') await this.damaged(digest, object, new Error('its digest is another'))
    return found
  }

  /**
   * Closes an open blob. Reports an error instead of throwing it: a disk error must not cost a
   * pull.
   */
  async close(object: StoredObject): Promise<void> {
    await this.#tried('close blob', () => object.close())
  }

  // Reports an error instead of throwing it: if the disk fails, the upstream may still have the
  // blob.
  async #tried<T>(operation: string, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read()
    } catch (error) {
      this.#options.observer.storeError(operation, error)
      return undefined
    }
  }
}
