// The bytes of manifests: the ones in use in memory, all of them in the store. Knows nothing of
// repositories: whoever asks has made sure that the bytes may be read.
import { LRUCache } from 'lru-cache'
import type { Digest } from '../../oci/digest.ts'
import { readManifest } from '../../oci/manifest.ts'
import type { Manifests } from '../../store/records/manifests.ts'
import type { CacheObserver } from '../observer.ts'
import type { WriteBehind } from '../flight/write-behind.ts'

/** Fits thousands of images: a manifest has a few KiB. */
const DEFAULT_MEMORY_BYTES = 64 * 1024 * 1024
/** What an entry costs besides its bytes, so that tiny ones are bounded too. */
const ENTRY_OVERHEAD_BYTES = 512

export interface HeldManifest {
  readonly bytes: Buffer
  readonly mediaType: string
}

export interface HeldManifestsOptions {
  readonly manifests: Pick<Manifests, 'get' | 'put' | 'used'>
  readonly writes: WriteBehind
  readonly observer: Pick<CacheObserver, 'storeError'>
  readonly memoryBytes?: number
}

export class HeldManifests {
  readonly #manifests: Pick<Manifests, 'get' | 'put' | 'used'>
  readonly #writes: WriteBehind
  readonly #observer: Pick<CacheObserver, 'storeError'>
  readonly #memory: LRUCache<Digest, HeldManifest>
  readonly #reading = new Map<Digest, Promise<HeldManifest | undefined>>()

  constructor(options: HeldManifestsOptions) {
    this.#manifests = options.manifests
    this.#writes = options.writes
    this.#observer = options.observer
    this.#memory = new LRUCache({
      maxSize: options.memoryBytes ?? DEFAULT_MEMORY_BYTES,
      sizeCalculation: ({ bytes }) => bytes.length + ENTRY_OVERHEAD_BYTES,
    })
  }

  /** From memory alone; counts as a use. */
  peek(digest: Digest): HeldManifest | undefined {
    const held = this.#memory.get(digest)
    if (held !== undefined) this.#manifests.used(digest)
    return held
  }

  /** From memory, else from the store; many who ask at once read it once. */
  async get(digest: Digest): Promise<HeldManifest | undefined> {
    const known = this.peek(digest)
    if (known !== undefined) return known
    const running = this.#reading.get(digest)
    if (running !== undefined) return running
    const reading = this.#read(digest).finally(() => this.#reading.delete(digest))
    this.#reading.set(digest, reading)
    return reading
  }

  /** Keeps verified bytes: in memory at once, in the store behind the answer. */
  put(digest: Digest, held: HeldManifest): void {
    this.#memory.set(digest, held)
    const write = (): Promise<void> => this.#manifests.put(digest, held.bytes)
    this.#writes.push(`manifest ${digest}`, 'write manifest', write, held.bytes.length)
  }

  async #read(digest: Digest): Promise<HeldManifest | undefined> {
    try {
      const bytes = await this.#manifests.get(digest)
      if (bytes === undefined) return this.#memory.get(digest)
      const held = { bytes, mediaType: mediaTypeOf(bytes) }
      this.#memory.set(digest, held)
      return held
    } catch (error) {
      this.#observer.storeError('read manifest', error)
      return this.#memory.get(digest)
    }
  }
}

function mediaTypeOf(bytes: Buffer): string {
  return readManifest(bytes)?.mediaType ?? 'application/octet-stream'
}
