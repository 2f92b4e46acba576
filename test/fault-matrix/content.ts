// The content that is pulled in a cell, the paths under which clients request it, and what they
// got.
import { contentDigest, bytesContent, syntheticBytes } from '../support/content.ts'
import { MEDIA_TYPES, type TestDescriptor, type TestLayer } from '../support/images.ts'
import { type RawResponse, rawRequest } from '../support/raw-client.ts'
import type { TestRegistry } from '../support/registry.ts'
import type { Content } from './cells.ts'

/** A registry and a repository, as clients name them. */
export interface Name {
  readonly registry: string
  readonly repository: string
}

/** Something to be pulled. */
export interface Wanted {
  readonly path: string
  /** The current content of the registries. */
  readonly bytes: Buffer
  /** The content of the registries when the cache was filled. */
  readonly before: Buffer
}

/** A client's result, in the words of the table. `ms` is how long it took. */
export interface Given {
  readonly told: string
  readonly retryAfter: number | undefined
  readonly ms: number
}

export const TAG = 'latest'
const SMALL = 96 * 1024
/**
 * More than what is held back until verification; half of it is less than what always counts as
 * progress.
 */
const LARGE = 1536 * 1024

/** Adds the content to `now`, and what was there before to `old`. */
export function addContent(
  registries: { readonly now: TestRegistry; readonly old?: TestRegistry },
  repository: string,
  content: Content,
): Wanted {
  const { now, old } = registries
  const size = content === 'large blob' ? LARGE : SMALL
  const layer = layerOf(syntheticBytes(repository, 0, size))
  const image = now.addImage(repository, TAG, { layers: [layer.layer] })
  old?.addImage(repository, TAG, { layers: [layer.layer] })
  const { digest, mediaType, bytes: before } = image
  if (content === 'referrers') {
    return addReferrers(registries, repository, { mediaType, digest, size: before.length })
  }
  if (content === 'manifest by digest') {
    return { path: `manifests/${digest}`, bytes: before, before }
  }
  if (content === 'manifest by tag') {
    const { bytes } = now.addImage(repository, TAG, { layers: 1, seed: `${repository} moved` })
    return { path: `manifests/${TAG}`, bytes, before }
  }
  const { bytes } = layer
  return { path: `blobs/${layer.layer.descriptor.digest}`, bytes, before: bytes }
}

function layerOf(bytes: Buffer): { readonly bytes: Buffer; readonly layer: TestLayer } {
  const content = bytesContent(bytes)
  const { size } = content
  const descriptor = { mediaType: MEDIA_TYPES.oci.layer, digest: contentDigest(content), size }
  return { bytes, layer: { content, descriptor } }
}

function addReferrers(
  { now, old }: { readonly now: TestRegistry; readonly old?: TestRegistry },
  repository: string,
  subject: TestDescriptor,
): Wanted {
  const [one, other] = ['first', 'second'].map((type) => {
    return now.addReferrer(repository, subject, { artifactType: `application/vnd.test.${type}` })
  })
  old?.addReferrer(repository, subject, { artifactType: 'application/vnd.test.first' })
  const bytes = digestsOf([one!, other!])
  return { path: `referrers/${subject.digest}`, bytes, before: digestsOf([one!]) }
}

/**
 * Requests the content from the server at `url`, all of it or from byte `from` on, and returns the
 * result.
 */
export async function pull(
  url: string,
  { registry, repository }: Name,
  wanted: Wanted,
  from = 0,
): Promise<Given> {
  const startedAt = performance.now()
  const headers = from === 0 ? {} : { range: `bytes=${from}-` }
  const source = `${url}/v2/${repository}/${wanted.path}?ns=${registry}`
  using response = await rawRequest(source, { headers })
  const { bytes, complete } = await response.body()
  const ms = performance.now() - startedAt
  const retryAfter = response.headers.get('retry-after')
  const told = complete ? tell(response, bytes, wanted, from) : 'cut'
  return { told, retryAfter: retryAfter === null ? undefined : Number(retryAfter), ms }
}

function tell(response: RawResponse, body: Buffer, wanted: Wanted, from: number): string {
  const { status, headers } = response
  if (status >= 400) return `${status} ${reasonIn(body)}`
  const isList = wanted.path.startsWith('referrers/')
  const bytes = isList ? digestsIn(body) : body
  const cacheStatus = headers.get('cache-status') ?? ''
  const detail = /; hit;.*\bdetail=([\w-]+)/.exec(cacheStatus)?.[1]
  if (bytes.equals(wanted.bytes.subarray(from))) {
    return detail === undefined ? 'good' : `${detail}, new`
  }
  if (bytes.equals(wanted.before) && detail !== undefined) return detail
  if (isList && bytes.length === 0) return 'none'
  return `${status}, ${bytes.length} bytes that are not the content; ${cacheStatus}`
}

function reasonIn(body: Buffer): string {
  const { errors }: { errors?: { detail?: { reason?: string } }[] } = JSON.parse(body.toString())
  return String(errors?.[0]?.detail?.reason)
}

function digestsIn(body: Buffer): Buffer {
  const { manifests }: { manifests: { digest: string }[] } = JSON.parse(body.toString())
  return digestsOf(manifests)
}

/** Returns the part of a list to compare: Chandlery writes lists anew. */
function digestsOf(found: readonly { readonly digest: string }[]): Buffer {
  const digests = found.map(({ digest }) => digest)
  return Buffer.from(digests.toSorted().join(' '))
}
