// Pushes images to an open registry through the distribution API (spec, "Pushing"): monolithic
// uploads, then manifests.
import { openAsBlob } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { bytesContent, contentBytes } from '../support/content.ts'
import { buildImage, buildIndex, MEDIA_TYPES } from '../support/images.ts'
import type { BuiltImage, ImageType, TestDescriptor, TestLayer } from '../support/images.ts'
import { writeLayer, type LayerFile } from './layers.ts'

/** What is in a registry, by name: for comparing with what clients got. */
export interface PushedImage {
  readonly repository: string
  readonly tag: string
  readonly type: ImageType
  /** What the tag points at. */
  readonly top: TestDescriptor
  /** Every document and blob, the top included. */
  readonly all: readonly TestDescriptor[]
  /** What the client has to have for linux/amd64: everything of one image. */
  readonly amd64: readonly TestDescriptor[]
}

export interface ImagePlan {
  readonly repository: string
  readonly type: ImageType
  readonly architectures: readonly string[]
  /** Sizes of the files in the layers, one layer each. */
  readonly layers: readonly number[]
}

/** Builds the image of the plan and pushes it under the tag "v1". */
export async function pushImage(
  url: string,
  plan: ImagePlan,
  workDirectory: string,
): Promise<PushedImage> {
  await mkdir(workDirectory, { recursive: true })
  const { repository, type } = plan
  const built = []
  for (const architecture of plan.architectures) {
    const image = await pushOne(url, plan, architecture, workDirectory)
    built.push({ architecture, image })
  }
  const first = built[0]?.image
  if (!first) throw new Error('a plan names an architecture')
  const index = built.length > 1 ? buildIndex(type, built) : undefined
  const top = index ?? first.manifest
  await pushManifest(url, repository, 'v1', top.bytes, top.descriptor.mediaType)
  const all = [
    ...(index ? [index.descriptor] : []),
    ...built.flatMap(({ image }) => partsOf(image)),
  ]
  return { repository, tag: 'v1', type, top: top.descriptor, all, amd64: partsOf(first) }
}

function partsOf(image: BuiltImage): TestDescriptor[] {
  const { manifest, config, layers } = image
  return [manifest.descriptor, config.descriptor, ...layers.map((layer) => layer.descriptor)]
}

async function pushOne(
  url: string,
  plan: ImagePlan,
  architecture: string,
  directory: string,
): Promise<BuiltImage> {
  const { repository, type } = plan
  const layers: TestLayer[] = []
  for (const [i, size] of plan.layers.entries()) {
    const name = `${repository.replaceAll('/', '-')}-${architecture}-${i}`
    const layer = await writeLayer(`${directory}/${name}`, name, size)
    await pushBlob(url, repository, layer.digest, await openAsBlob(layer.file))
    layers.push(asLayer(type, layer))
  }
  const image = buildImage(type, layers, architecture)
  const config = contentBytes(image.config.content)
  await pushBlob(url, repository, image.config.descriptor.digest, config)
  const { bytes, descriptor } = image.manifest
  await pushManifest(url, repository, descriptor.digest, bytes, descriptor.mediaType)
  return image
}

// The content stays in its file: only the descriptor is needed from here on.
function asLayer(type: ImageType, { digest, size, diffId }: LayerFile): TestLayer {
  const mediaType = MEDIA_TYPES[type].layer
  return { descriptor: { mediaType, digest, size }, diffId, content: bytesContent(Buffer.alloc(0)) }
}

async function pushBlob(
  url: string,
  repository: string,
  digest: string,
  body: Blob | Buffer,
): Promise<void> {
  const begun = await fetch(`${url}/v2/${repository}/blobs/uploads/`, { method: 'POST' })
  const location = new URL(begun.headers.get('location') ?? '', url)
  location.searchParams.set('digest', digest)
  const content = body instanceof Blob ? body : new Uint8Array(body)
  const type = { 'content-type': 'application/octet-stream' }
  await expectCreated(await fetch(location, { method: 'PUT', body: content, headers: type }))
}

async function pushManifest(
  url: string,
  repository: string,
  reference: string,
  bytes: Buffer,
  mediaType: string,
) {
  const target = `${url}/v2/${repository}/manifests/${reference}`
  const init = {
    method: 'PUT',
    body: new Uint8Array(bytes),
    headers: { 'content-type': mediaType },
  }
  await expectCreated(await fetch(target, init))
}

async function expectCreated(response: Response): Promise<void> {
  const text = await response.text()
  if (response.status !== 201) throw new Error(`push: ${response.status} ${response.url} ${text}`)
}
