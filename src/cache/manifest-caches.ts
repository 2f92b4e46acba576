// Composes the caches of everything but blobs: manifests, tags, referrers, the catalog, and the
// records of who may read what.
import type { Links } from '../store/records/links.ts'
import type { Manifests } from '../store/records/manifests.ts'
import type { Referrers } from '../store/records/referrers.ts'
import type { Tags } from '../store/records/tags.ts'
import { Access } from './access/access.ts'
import { Catalog } from './listing/catalog.ts'
import type { FreshnessPolicy } from './policy/freshness.ts'
import { Grants } from './access/grants.ts'
import { HeldManifests } from './manifest/held-manifests.ts'
import { ManifestCache } from './manifest/manifest-cache.ts'
import { ManifestIntake } from './manifest/intake.ts'
import { NegativeCache } from './policy/negative-cache.ts'
import type { CacheObserver } from './observer.ts'
import { ReferrersCache } from './listing/referrers-cache.ts'
import { TagLister } from './listing/tag-lister.ts'
import { TagResolver } from './manifest/tag-resolver.ts'
import { WriteBehind } from './flight/write-behind.ts'
import type { UpstreamFace } from '../upstream/face/requester.ts'

export interface ManifestCachesOptions {
  readonly upstream: Pick<
    UpstreamFace,
    'headManifest' | 'getManifest' | 'headBlob' | 'tags' | 'referrers' | 'budget'
  >
  readonly store: {
    readonly manifests: Pick<Manifests, 'get' | 'put' | 'used'>
    readonly links: Pick<Links, 'get' | 'put' | 'repositories'>
    readonly tags: Pick<Tags, 'get' | 'put' | 'list'>
    readonly referrers: Pick<Referrers, 'get' | 'put'>
  }
  readonly observer: CacheObserver
  /** Returns the settings in force. */
  readonly freshness: () => FreshnessPolicy
  /** The most bytes of manifests that are kept in memory. */
  readonly memoryBytes?: number
  /** Returns the time in milliseconds since the epoch. Default: Date.now. */
  readonly now?: () => number
}

export interface ManifestCaches {
  readonly access: Access
  readonly grants: Grants
  readonly negative: NegativeCache
  readonly manifests: ManifestCache
  readonly tags: TagLister
  readonly referrers: ReferrersCache
  readonly catalog: Catalog
  /** Forgets failures and 404s, so that upstreams are asked again at once. */
  forgetFailures(): void
  /** Resolves when everything learned so far is in the store. */
  drain(): Promise<void>
  /** As `drain`, and stops writing. Call it before another server takes the store. */
  end(): Promise<void>
}

export function createManifestCaches(options: ManifestCachesOptions): ManifestCaches {
  const { upstream, store, observer, freshness, memoryBytes, now = Date.now } = options
  const writes = new WriteBehind({ observer })
  const kept = { writes, observer }
  const grants = new Grants({ links: store.links, ...kept })
  const held = new HeldManifests({
    manifests: store.manifests,
    ...kept,
    ...(memoryBytes !== undefined && { memoryBytes }),
  })
  const access = new Access({ upstream, grants, now })
  const intake = new ManifestIntake({ upstream, held, grants, now })
  const negative = new NegativeCache({ now })
  const asked = { upstream, freshness, negative, ...kept, now }
  const resolver = new TagResolver({ ...asked, tags: store.tags, held, intake })
  const manifests = new ManifestCache({ ...asked, resolver, held, intake, access })
  const tagLister = new TagLister({ ...asked, tags: store.tags })
  const referrersOf = { referrers: store.referrers, grants, manifests }
  const referrers = new ReferrersCache({ ...asked, ...referrersOf })
  return {
    access,
    grants,
    negative,
    manifests,
    tags: tagLister,
    referrers,
    catalog: new Catalog({ links: store.links, now }),
    forgetFailures: () => {
      negative.clear()
      for (const each of [resolver, tagLister, referrers]) each.forgetFailures()
    },
    drain: () => writes.drain(),
    end: () => writes.end(),
  }
}
