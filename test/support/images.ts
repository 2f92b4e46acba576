// Builds images from given or small random layers: config, manifest and index, as OCI or Docker
// types.
import type { Digest } from '../../src/oci/digest.ts'
import { bytesContent, contentDigest, syntheticBytes, type TestContent } from './content.ts'

export type ImageType = 'oci' | 'docker'

export interface TestDescriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
  readonly artifactType?: string
  readonly annotations?: Readonly<Record<string, string>>
  readonly platform?: { readonly os: string; readonly architecture: string }
}

/** The media types of one kind of image. */
export const MEDIA_TYPES = {
  oci: {
    index: 'application/vnd.oci.image.index.v1+json',
    manifest: 'application/vnd.oci.image.manifest.v1+json',
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  },
  docker: {
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
    manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
} as const

/** A document or layer with its descriptor. */
export interface Part {
  readonly descriptor: TestDescriptor
  readonly content: TestContent
}

/** A layer that exists as content. `diffId` is the digest of the uncompressed tar. */
export interface TestLayer extends Part {
  readonly diffId?: Digest
}

export interface BuiltImage {
  readonly manifest: Part & { readonly bytes: Buffer }
  readonly config: Part
  readonly layers: readonly TestLayer[]
}

export function describe(mediaType: string, content: TestContent): TestDescriptor {
  return { mediaType, digest: contentDigest(content), size: content.size }
}

/** Returns a JSON document as the registry keeps it. */
export function documentPart(mediaType: string, value: unknown): Part & { readonly bytes: Buffer } {
  const bytes = Buffer.from(JSON.stringify(value, undefined, 2))
  const content = bytesContent(bytes)
  return { descriptor: describe(mediaType, content), content, bytes }
}

/** Returns a small layer of random bytes. It is not a tar: only registries can handle it. */
export function opaqueLayer(type: ImageType, seed: string, size = 2_000): TestLayer {
  const content = bytesContent(syntheticBytes(seed, 0, size))
  return { content, descriptor: describe(MEDIA_TYPES[type].layer, content) }
}

/** Returns the config and the manifest of an image with these layers. */
export function buildImage(
  type: ImageType,
  layers: readonly TestLayer[],
  architecture = 'amd64',
): BuiltImage {
  const types = MEDIA_TYPES[type]
  const config = documentPart(types.config, {
    architecture,
    os: 'linux',
    config: { Cmd: ['/hello'] },
    rootfs: {
      type: 'layers',
      diff_ids: layers.map((layer) => layer.diffId ?? layer.descriptor.digest),
    },
    history: layers.map(() => ({ created: '2026-01-01T00:00:00Z', created_by: 'test' })),
  })
  const manifest = documentPart(types.manifest, {
    schemaVersion: 2,
    mediaType: types.manifest,
    config: config.descriptor,
    layers: layers.map((layer) => layer.descriptor),
  })
  return { manifest, config, layers }
}

/** Returns an index (OCI) or manifest list (Docker) of these images, one per architecture. */
export function buildIndex(
  type: ImageType,
  images: readonly { readonly architecture: string; readonly image: BuiltImage }[],
): Part & { readonly bytes: Buffer } {
  const mediaType = MEDIA_TYPES[type].index
  const manifests = images.map(({ architecture, image }) => ({
    ...image.manifest.descriptor,
    platform: { architecture, os: 'linux' },
  }))
  return documentPart(mediaType, { schemaVersion: 2, mediaType, manifests })
}
