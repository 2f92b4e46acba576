// Descriptors: how a manifest refers to content (image-spec, descriptor.md).

import { type Digest, parseDigest } from './digest.ts'

export interface Descriptor {
  mediaType: string
  digest: Digest
  /** In bytes. */
  size: number
  artifactType?: string
  annotations?: Record<string, string>
  urls?: string[]
  platform?: Record<string, unknown>
  data?: string
}

/** The media type of a descriptor that names none. */
const UNTYPED = 'application/octet-stream'

/** Reports whether a JSON value is an object: not null and not an array. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Returns the annotations whose values are strings, or undefined if there are none. */
export function readAnnotations(value: unknown): Record<string, string> | undefined {
  if (!isObject(value)) return undefined
  const entries = Object.entries(value).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  )
  return entries.length === 0 ? undefined : Object.fromEntries(entries)
}

/**
 * Reads a descriptor from JSON. Returns undefined if it has no size, or no digest of a supported
 * algorithm. Leaves out optional fields of the wrong type and fields unknown to the specification.
 */
export function readDescriptor(value: unknown): Descriptor | undefined {
  if (!isObject(value)) return undefined
  const digest = typeof value['digest'] === 'string' ? parseDigest(value['digest']) : undefined
  const size = value['size']
  if (digest === undefined || !isSize(size)) return undefined
  return { mediaType: text(value['mediaType']) ?? UNTYPED, digest, size, ...readOptional(value) }
}

function readOptional(value: Record<string, unknown>): Partial<Descriptor> {
  const found: Partial<Descriptor> = {}
  const artifactType = text(value['artifactType'])
  if (artifactType !== undefined) found.artifactType = artifactType
  const annotations = readAnnotations(value['annotations'])
  if (annotations !== undefined) found.annotations = annotations
  const urls = readUrls(value['urls'])
  if (urls !== undefined) found.urls = urls
  if (isObject(value['platform'])) found.platform = value['platform']
  if (typeof value['data'] === 'string') found.data = value['data']
  return found
}

function readUrls(value: unknown): string[] | undefined {
  if (!Array.isArray(value)) return undefined
  const urls = value.filter((url): url is string => typeof url === 'string')
  return urls.length === 0 ? undefined : urls
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

function isSize(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
