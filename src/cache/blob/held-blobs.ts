// Held blobs as the cache trusts them. Only the digest decides whether one is damaged: what a manifest
// claims about its size is a reason to hash it once more, nothing else, since anybody may push a
// manifest. A damaged blob is put aside, so that it is fetched again: a damaged disk costs the cache,
// never a pull.
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
  /** One of so many reads of a blob hashes it again. Default 100. */
  readonly sampleEvery?: number | undefined
  readonly random?: () => number
}

type Found = 'good' | 'wrong' | 'absent'

/** A sampled blob of up to this size is hashed before it is sent: nobody is sent wrong bytes. */
const CHECKED_FIRST_BYTES = 32 * 1024 * 1024
/** A blob that was found good is not hashed again for this time. */
const TRUSTED_MS = 24 * 3600_000
const MAX_TRUSTED = 50_000
const MAX_DISTRUSTED = 10_000

export class HeldBlobs {
  readonly #options: HeldBlobsOptions
  /** The size that a blob had when it was hashed and found good. */
  readonly #trusted = new LRUCache<Digest, number>({ max: MAX_TRUSTED, ttl: TRUSTED_MS })
  /** Blobs that were found damaged and could not be put aside: they are hashed each time. */
  readonly #distrusted = new LRUCache<Digest, true>({ max: MAX_DISTRUSTED })
  /** The checks that run, by digest and size: whoever doubts the same file waits for the same check. */
  readonly #checks = new Map<string, Promise<Found | undefined>>()
  #isSampling = false

  constructor(options: HeldBlobsOptions) {
    this.#options = options
  }

  /** Opens a held blob without looking at its bytes: ask `isSound` before they are served. */
  open(digest: Digest): Promise<StoredObject | undefined> {
    return this.#tried('open blob', () => this.#options.blobs.open(digest))
  }

  /** The size of a held blob's file in bytes: ask `isSizeSound` before it is told. */
  async size(digest: Digest): Promise<number | undefined> {
    return (await this.#tried('stat blob', () => this.#options.blobs.stat(digest)))?.size
  }

  /**
   * Reports whether an open blob may be served. `claimedSize` is what a manifest says, where one names
   * the blob. This may read all of it, so call it only for requesters that may read the blob.
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
    // In the same tick as the question: another sample could begin before this one has.
    this.#isSampling = true
    if (object.size <= CHECKED_FIRST_BYTES) return (await this.#sample(digest, object)) !== 'wrong'
    void this.#sample(digest)
    return true
  }

  /** Reports whether `size`, the length of a held blob's file, is that of the blob. As `isSound`. */
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

  /** Reading an open blob failed: it is put aside where its file is at fault, and stays otherwise. */
  async readFailed(digest: Digest, object: StoredObject, why: unknown): Promise<void> {
    const isDamaged = why instanceof TruncatedContent || storageTrouble(why) === 'broken'
    if (isDamaged) await this.damaged(digest, object, why)
    else this.#options.observer.storeError('read blob', why)
  }

  /** Puts a blob aside that cannot be read, or whose bytes are not those of its digest. */
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

  /** Without a claim, nothing would show that the file is too short. */
  #isDoubtful(digest: Digest, size: number, claimedSize: number | undefined): boolean {
    if (this.#distrusted.has(digest)) return true
    const goodSize = this.#trusted.get(digest)
    return (goodSize ?? claimedSize) !== size
  }

  // One sample at a time: hashing costs as much as many reads.
  #isSampled(digest: Digest): boolean {
    const { sampleEvery = 100, random = Math.random } = this.#options
    return !this.#isSampling && !this.#trusted.has(digest) && random() * sampleEvery < 1
  }

  /** Without `given`, the blob is opened for it: the response that asked closes its own. */
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

  /** Hashes a blob, once for all who ask meanwhile. Undefined: it could not be read for now. */
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

  /** Closes an open blob. An error of the disk is reported, not thrown: it must not cost a pull. */
  async close(object: StoredObject): Promise<void> {
    await this.#tried('close blob', () => object.close())
  }

  // A disk that cannot be read costs the cache, not the pull: the upstream may still have the blob.
  async #tried<T>(operation: string, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read()
    } catch (error) {
      this.#options.observer.storeError(operation, error)
      return undefined
    }
  }
}
