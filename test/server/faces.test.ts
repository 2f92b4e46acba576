import { expect, expectTypeOf, it } from 'vitest'
import type { BlobCache } from '../../src/cache/blob/blob-cache.ts'
import type { Catalog } from '../../src/cache/listing/catalog.ts'
import type { ManifestCache } from '../../src/cache/manifest/manifest-cache.ts'
import type { ReferrersCache } from '../../src/cache/listing/referrers-cache.ts'
import type { TagLister } from '../../src/cache/listing/tag-lister.ts'
import type { AppOptions } from '../../src/server/app.ts'
import type { Faces } from '../../src/server/faces.ts'
import { Registries } from '../../src/upstream/routing/registries.ts'

interface Real {
  manifests: ManifestCache
  blobs: BlobCache
  tags: TagLister
  referrers: ReferrersCache
  catalog: Catalog
  registries: Registries
}

it('the real caches and registries fit what the server asks for', () => {
  expectTypeOf<Real>().toExtend<Pick<Faces & AppOptions, keyof Real>>()
  const registries: AppOptions['registries'] = new Registries({
    defaultRegistry: 'docker.io',
    defaultEndpoints: true,
    mirrors: [{ registry: 'docker.io', endpoints: [], rewrites: [], hosts: [] }],
  })
  const routed = registries.route(
    { kind: 'manifest', name: 'alpine', reference: 'latest' },
    { host: 'cache:5000' },
  )
  expect(routed).toMatchObject({
    repository: { registry: 'docker.io', name: 'library/alpine' },
    clientName: 'alpine',
    clientPrefix: '',
  })
})
