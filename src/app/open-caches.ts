// Opens the directory and composes the caches over it. Settings that may change while they run are asked
// for each time.
import { BlobCache } from '../cache/blob/blob-cache.ts'
import type { Caches } from '../cache/caches.ts'
import { Downloads } from '../cache/download/downloads.ts'
import { HeldBlobs } from '../cache/blob/held-blobs.ts'
import { createManifestCaches, type ManifestCaches } from '../cache/manifest-caches.ts'
import type { Generation } from './generation.ts'
import type { Observer } from '../observability/observer.ts'
import { openStore, type Store } from '../store/store.ts'
import { CurrentUpstream } from '../upstream/current-upstream.ts'

export interface OpeningOptions {
  readonly directory: string
  readonly observer: Observer
  /** Returns the current generation. */
  readonly generation: () => Generation
  readonly retryDelayMs: number | undefined
  readonly sampleEvery: number | undefined
  /** Aborts the opening: nothing is written after it has fired. */
  readonly signal: AbortSignal
}

/** What is there once the directory is open. */
export interface Opened {
  readonly store: Store
  readonly downloads: Downloads
  readonly manifestCaches: ManifestCaches
  /** What the server answers requests from. */
  readonly caches: Caches
}

/** Space that blobs leave to manifests and links, in bytes. */
const SPARE_BYTES = 1024 * 1024

/** Rejects if the directory cannot be used, or the signal fires. */
export async function openCaches(options: OpeningOptions): Promise<Opened> {
  const { directory, observer, generation, sampleEvery, signal } = options
  const store = await openStore({ directory, observer, signal })
  void store.blobs.usage() // begins to count in the background
  const upstream = new CurrentUpstream(() => generation().upstream)
  const freshness = () => generation().freshness
  const manifestCaches = createManifestCaches({ upstream, store, observer, freshness })
  const downloads = createDownloads(store, options)
  const { access, grants, negative } = manifestCaches
  const blobs = new BlobCache({
    held: new HeldBlobs({ blobs: store.blobs, observer, sampleEvery }),
    access,
    grants,
    upstream,
    downloads,
    negative,
    freshness,
  })
  const { manifests, tags, referrers, catalog } = manifestCaches
  const caches = { manifests, blobs, tags, referrers, catalog }
  return { store, downloads, manifestCaches, caches }
}

function createDownloads(
  store: Store,
  { observer, generation, retryDelayMs }: OpeningOptions,
): Downloads {
  return new Downloads({
    observer,
    get fetch() {
      return generation().config.fetch
    },
    createIngest: (digest) => store.blobs.ingest(digest),
    hasRoom: (bytes) => hasRoom(store, bytes),
    ...(retryDelayMs !== undefined && { retryDelayMs }),
  })
}

// If the free space cannot be read, the write is tried: it will fail if there is none.
async function hasRoom(store: Store, bytes: number): Promise<boolean> {
  const space = await store.blobs.space().catch(() => undefined)
  return space === undefined || bytes + SPARE_BYTES <= space.freeBytes
}
