// The bytes of manifests: the recently used ones in memory, all of them in the store. It knows nothing
// of repositories: callers make sure that the bytes may be read.
import { LRUCache } from 'lru-cache'
import type { Digest } from '../../oci/digest.ts'
import { readManifest } from '../../oci/manifest.ts'
import type { Manifests } from '../../store/records/manifests.ts'
import { Coalescer } from '../flight/coalescer.ts'
import type { WriteBehind } from '../flight/write-behind.ts'
import type { CacheObserver } from '../observer.ts'

/** Enough for thousands of images: a manifest has a few KiB. */
const DEFAULT_MEMORY_BYTES = 64 * 1024 * 1024
/** What an entry costs besides its bytes: without it, tiny manifests would not be bounded. */
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
  readonly #options: HeldManifestsOptions
  readonly #memory: LRUCache<Digest, HeldManifest>
  readonly #reads = new Coalescer<HeldManifest | undefined>()

  constructor(options: HeldManifestsOptions) {
    this.#options = options
    this.#memory = new LRUCache({
      maxSize: options.memoryBytes ?? DEFAULT_MEMORY_BYTES,
      sizeCalculation: ({ bytes }) => bytes.length + ENTRY_OVERHEAD_BYTES,
    })
  }

  /** Returns the manifest if it is in memory. Call `noteUse` when it is served. */
  peek(digest: Digest): HeldManifest | undefined {
    return this.#memory.get(digest)
  }

  /** Notes that a manifest from memory is served: eviction goes by the last use. */
  noteUse(digest: Digest): void {
    this.#options.manifests.used(digest)
  }

  /**
   * Returns the manifest from memory or else from the store, and notes the use. However many ask at
   * once, the store is read once. A manifest that cannot be read counts as absent and is reported.
   */
  async get(digest: Digest): Promise<HeldManifest | undefined> {
    const known = this.peek(digest)
    if (known === undefined) return await this.#reads.run(digest, () => this.#read(digest)).promise
    this.noteUse(digest)
    return known
  }

  /** Keeps verified bytes: in memory at once, in the store behind the answer. */
  put(digest: Digest, held: HeldManifest): void {
    const { manifests, writes } = this.#options
    this.#memory.set(digest, held)
    const write = () => manifests.put(digest, held.bytes)
    writes.push(`manifest ${digest}`, 'write manifest', write, held.bytes.length)
  }

  async #read(digest: Digest): Promise<HeldManifest | undefined> {
    const { manifests, observer } = this.#options
    try {
      const bytes = await manifests.get(digest)
      if (bytes === undefined) return this.peek(digest)
      const held = { bytes, mediaType: mediaTypeOf(bytes) }
      this.#memory.set(digest, held)
      return held
    } catch (error) {
      observer.storeError('read manifest', error)
      return this.peek(digest)
    }
  }
}

function mediaTypeOf(bytes: Buffer): string {
  return readManifest(bytes)?.mediaType ?? 'application/octet-stream'
}
