// The caches that the server answers requests from.
import type { BlobCache } from './blob/blob-cache.ts'
import type { Catalog } from './listing/catalog.ts'
import type { ReferrersCache } from './listing/referrers-cache.ts'
import type { TagLister } from './listing/tag-lister.ts'
import type { ManifestCache } from './manifest/manifest-cache.ts'

export type { Requester } from '../upstream/face/requester.ts'

export interface Caches {
  readonly manifests: Pick<ManifestCache, 'get' | 'head'>
  readonly blobs: Pick<BlobCache, 'open' | 'head'>
  readonly tags: Pick<TagLister, 'list'>
  readonly referrers: Pick<ReferrersCache, 'list'>
  readonly catalog: Pick<Catalog, 'repositories'>
}
