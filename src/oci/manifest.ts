// Reads from a manifest what the cache needs: its media type and the content it names. Manifests are
// always served as the bytes that came; nothing is serialised from this summary.

import { type Descriptor, isObject, readAnnotations, readDescriptor } from './descriptor.ts'
import {
  bareType,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  DOCKER_SCHEMA1,
  DOCKER_SCHEMA1_SIGNED,
  isManifestType,
  OCI_ARTIFACT,
  OCI_INDEX,
  OCI_MANIFEST,
} from './media-types.ts'

/**
 * The size of the largest manifest that is fetched, kept and read, in bytes. It is twice the 4 MiB
 * that registries should accept; containerd stops at 4,393,216 (4 * 1048 * 1048).
 */
export const MAX_MANIFEST_BYTES = 8 * 1024 * 1024

/** The most descriptors read from one list. The rest of the list is served, but grants access to nothing. */
export const MAX_DESCRIPTORS = 16_384

export interface ManifestSummary {
  /** The Content-Type to serve the manifest with, without parameters. */
  mediaType: string
  /** The manifests that an index lists. */
  children: Descriptor[]
  /** The config and layers; for an index, its entries that are not manifests (BuildKit's caches). */
  blobs: Descriptor[]
  /** The manifest that this one refers to, as signatures and SBOMs do. */
  subject?: Descriptor
  /** The type shown in a referrers list: the manifest's artifactType, else its config's media type. */
  artifactType?: string
  annotations?: Record<string, string>
  /** Docker schema 1. Its digest is not that of its bytes, and its layers have no sizes, so none are listed. */
  schema1: boolean
}

type Json = Record<string, unknown>
type Shape = 'index' | 'image' | 'artifact' | 'schema1'

const TYPES: Readonly<Record<Shape, readonly string[]>> = {
  index: [OCI_INDEX, DOCKER_LIST],
  image: [OCI_MANIFEST, DOCKER_MANIFEST],
  artifact: [OCI_ARTIFACT],
  schema1: [DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED],
}

/**
 * Reads a manifest of any kind. Returns undefined if it is not one: HTML, other JSON, too large, or
 * both an index and an image, which two readers could understand differently (CVE-2021-41190). The
 * media type is the response's if it fits the content, else the one that the content names, else the
 * one that its shape suggests.
 */
export function readManifest(bytes: Uint8Array, contentType?: string): ManifestSummary | undefined {
  const json = parseJson(bytes)
  const shape = json && shapeOf(json)
  if (json === undefined || shape === undefined) return undefined
  const summary: ManifestSummary = {
    mediaType: typeOf(json, shape, contentType),
    ...contentOf(json, shape),
    schema1: shape === 'schema1',
  }
  const subject = readDescriptor(json['subject'])
  if (subject !== undefined) summary.subject = subject
  const artifactType = artifactTypeOf(json)
  if (artifactType !== undefined) summary.artifactType = artifactType
  const annotations = readAnnotations(json['annotations'])
  if (annotations !== undefined) summary.annotations = annotations
  return summary
}

function parseJson(bytes: Uint8Array): Json | undefined {
  if (bytes.byteLength > MAX_MANIFEST_BYTES) return undefined
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes))
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

function shapeOf(json: Json): Shape | undefined {
  if (json['schemaVersion'] === 1) return Array.isArray(json['fsLayers']) ? 'schema1' : undefined
  if (json['mediaType'] === OCI_ARTIFACT) return 'artifact'
  const typed = typeof json['mediaType'] === 'string' && isManifestType(json['mediaType'])
  if (json['schemaVersion'] !== 2 && !typed) return undefined
  const index = isList(json['manifests'])
  const image = isList(json['layers']) || isNamed(json['config'])
  if (index === image) return undefined
  return index ? 'index' : 'image'
}

/** Go writes an empty list as null. */
function isList(value: unknown): boolean {
  return Array.isArray(value) || value === null
}

function isNamed(value: unknown): boolean {
  return isObject(value) && typeof value['digest'] === 'string'
}

function typeOf(json: Json, shape: Shape, contentType: string | undefined): string {
  const own = typeof json['mediaType'] === 'string' ? json['mediaType'] : undefined
  const said = [bareType(contentType), bareType(own)]
  const fitting = said.find((type) => type !== undefined && TYPES[shape].includes(type))
  return fitting ?? inferredType(json, shape)
}

function inferredType(json: Json, shape: Shape): string {
  if (shape === 'artifact') return OCI_ARTIFACT
  if (shape === 'schema1') return 'signatures' in json ? DOCKER_SCHEMA1_SIGNED : DOCKER_SCHEMA1
  const parts = [json['config'], ...[json['manifests'], json['layers']].flat()]
  const docker = parts.some((part) => isObject(part) && isDockerType(part['mediaType']))
  if (shape === 'index') return docker ? DOCKER_LIST : OCI_INDEX
  return docker ? DOCKER_MANIFEST : OCI_MANIFEST
}

function isDockerType(type: unknown): boolean {
  return typeof type === 'string' && type.startsWith('application/vnd.docker.')
}

function contentOf(json: Json, shape: Shape): { children: Descriptor[]; blobs: Descriptor[] } {
  if (shape === 'index') {
    const listed = readList(json['manifests'])
    return {
      children: listed.filter((entry) => isManifestType(entry.mediaType)),
      blobs: listed.filter((entry) => !isManifestType(entry.mediaType)),
    }
  }
  if (shape === 'artifact') return { children: [], blobs: readList(json['blobs']) }
  if (shape === 'schema1') return { children: [], blobs: [] }
  const config = readDescriptor(json['config'])
  const layers = readList(json['layers'])
  return { children: [], blobs: config === undefined ? layers : [config, ...layers] }
}

function readList(value: unknown): Descriptor[] {
  if (!Array.isArray(value)) return []
  return value
    .slice(0, MAX_DESCRIPTORS)
    .map(readDescriptor)
    .filter((entry) => entry !== undefined)
}

function artifactTypeOf(json: Json): string | undefined {
  const own = json['artifactType']
  if (typeof own === 'string' && own !== '') return own
  const config = json['config']
  const type = isObject(config) ? config['mediaType'] : undefined
  return typeof type === 'string' && type !== '' ? type : undefined
}
