// Held blobs as the cache trusts them: what is not as long as it should be, cannot be read, or proves
// wrong when a sample is hashed again, is put aside, so that it is fetched anew. A damaged disk costs
// the cache, never a pull.
import { LRUCache } from 'lru-cache'
import type { Digest } from '../oci/digest.ts'
import type { Blobs } from '../store/blobs.ts'
import type { StoredObject } from '../store/driver.ts'
import type { CacheObserver } from './observer.ts'

export interface HeldBlobsOptions {
  readonly blobs: Pick<Blobs, 'open' | 'stat' | 'verify' | 'quarantine'>
  readonly observer: Pick<CacheObserver, 'storeError'>
  /** Every so many reads of a blob, it is hashed again. Default 100. */
  readonly sampleEvery?: number
  readonly random?: () => number
}

/** What was found right a moment ago is not read again for it. */
const TRUSTED_MS = 24 * 3600_000
const MOST_TRUSTED = 50_000

export class HeldBlobs {
  readonly #options: HeldBlobsOptions
  readonly #trusted = new LRUCache<Digest, true>({ max: MOST_TRUSTED, ttl: TRUSTED_MS })
  #sampling = false

  constructor(options: HeldBlobsOptions) {
    this.#options = options
  }

  /** A blob of this size in bytes, where its size is known; of an unknown one only after it was hashed again. */
  async open(digest: Digest, size: number | undefined): Promise<StoredObject | undefined> {
    const { blobs } = this.#options
    const object = await this.#tried('open blob', () => blobs.open(digest))
    if (object === undefined) return undefined
    const sound = size === undefined ? await this.#isRight(digest) : object.size === size
    if (sound) {
      this.#sample(digest)
      return object
    }
    await this.damaged(digest, object, new Error(`it has ${object.size} bytes instead of ${size}`))
    await object.close()
    return undefined
  }

  /** Its size in bytes; undefined where it is not held, or not as long as it should be. */
  async size(digest: Digest, size: number | undefined): Promise<number | undefined> {
    const held = await this.#tried('stat blob', () => this.#options.blobs.stat(digest))
    return size !== undefined && held?.size !== size ? undefined : held?.size
  }

  /** It could not be read to its end, or holds other bytes than it should: it is put aside. */
  async damaged(digest: Digest, object: StoredObject | undefined, why: unknown): Promise<void> {
    this.#trusted.delete(digest)
    const { blobs, observer } = this.#options
    observer.storeError('damaged blob', new Error(`held blob ${digest} is damaged`, { cause: why }))
    await this.#tried('quarantine', () => blobs.quarantine(digest, object))
  }

  // One at a time, behind the answer: hashing costs as much as many reads.
  #sample(digest: Digest): void {
    const { sampleEvery = 100, random = Math.random } = this.#options
    if (this.#sampling || this.#trusted.has(digest) || random() * sampleEvery >= 1) return
    this.#sampling = true
    void this.#isRight(digest).finally(() => {
      this.#sampling = false
    })
  }

  async #isRight(digest: Digest): Promise<boolean> {
    if (this.#trusted.has(digest)) return true
    const found = await this.#tried('verify blob', () => this.#options.blobs.verify(digest))
    if (found === 'good') this.#trusted.set(digest, true)
    if (found === 'wrong') await this.damaged(digest, undefined, new Error('its digest is another'))
    return found === 'good'
  }

  // A disk that cannot be read costs the cache, not the pull: the upstream may still have it.
  async #tried<T>(operation: string, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read()
    } catch (error) {
      this.#options.observer.storeError(operation, error)
      return undefined
    }
  }
}
