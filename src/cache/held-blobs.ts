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
  readonly sampleEvery?: number | undefined
  readonly random?: () => number
}

type Found = 'good' | 'wrong' | 'absent'

/** Up to this size what is sampled is checked before it is sent: nobody is sent what is wrong. */
const CHECKED_FIRST_BYTES = 32 * 1024 * 1024
/** What was found right a moment ago is not read again for it. */
const TRUSTED_MS = 24 * 3600_000
const MOST_TRUSTED = 50_000
const MOST_DISTRUSTED = 10_000

export class HeldBlobs {
  readonly #options: HeldBlobsOptions
  readonly #trusted = new LRUCache<Digest, true>({ max: MOST_TRUSTED, ttl: TRUSTED_MS })
  /** Found damaged, and still where they were: they are checked each time. */
  readonly #distrusted = new LRUCache<Digest, true>({ max: MOST_DISTRUSTED })
  #sampling = false

  constructor(options: HeldBlobsOptions) {
    this.#options = options
  }

  /** A blob of this size in bytes, where its size is known; of an unknown one only after it was hashed again. */
  async open(digest: Digest, size: number | undefined): Promise<StoredObject | undefined> {
    const object = await this.#tried('open blob', () => this.#options.blobs.open(digest))
    if (object === undefined || (await this.#isSound(digest, object, size))) return object
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
    this.#distrusted.set(digest, true)
    const isAside = await this.#tried('quarantine', async () => {
      await blobs.quarantine(digest, object)
      return true
    })
    if (isAside) this.#distrusted.delete(digest)
  }

  async #isSound(digest: Digest, object: StoredObject, size: number | undefined): Promise<boolean> {
    const isDoubtful = size === undefined || this.#distrusted.has(digest)
    if (isDoubtful) return (await this.#check(digest, object)) === 'good'
    if (object.size !== size) {
      const why = new Error(`it has ${object.size} bytes instead of ${size}`)
      await this.damaged(digest, object, why)
      return false
    }
    if (!this.#isSampled(digest)) return true
    if (size <= CHECKED_FIRST_BYTES) return (await this.#sample(digest, object)) !== 'wrong'
    void this.#sampleBehind(digest)
    return true
  }

  // One at a time: hashing costs as much as many reads.
  #isSampled(digest: Digest): boolean {
    const { sampleEvery = 100, random = Math.random } = this.#options
    return !this.#sampling && !this.#trusted.has(digest) && random() * sampleEvery < 1
  }

  // The response that reads it goes on meanwhile, and closes what it reads from.
  async #sampleBehind(digest: Digest): Promise<void> {
    const object = await this.#tried('open blob', () => this.#options.blobs.open(digest))
    if (object === undefined) return
    await this.#sample(digest, object)
    await this.#tried('close blob', () => object.close())
  }

  async #sample(digest: Digest, object: StoredObject): Promise<Found | undefined> {
    this.#sampling = true
    try {
      return await this.#check(digest, object)
    } finally {
      this.#sampling = false
    }
  }

  /** @returns undefined where nobody can tell */
  async #check(digest: Digest, object: StoredObject): Promise<Found | undefined> {
    if (this.#trusted.has(digest)) return 'good'
    const { blobs } = this.#options
    const found = await this.#tried('verify blob', () => blobs.verify(digest, { object }))
    if (found === 'good') {
      this.#trusted.set(digest, true)
      this.#distrusted.delete(digest)
    }
    if (found === 'wrong') await this.damaged(digest, object, new Error('its digest is another'))
    return found
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
