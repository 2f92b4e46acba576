// Makes and parses every key of the store; it does no I/O. A component of a repository's name never
// starts with "_" (distribution's grammar), so `_blobs`, `_tags` and the like cannot collide with a
// nested repository.

import { algorithmOf, encodedOf, parseDigest } from '../oci/digest.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'

/** The layout's version, kept in `VERSION_KEY`. */
export const LAYOUT_VERSION = 1
export const VERSION_KEY = 'version'
export const REPOSITORIES_PREFIX = 'repositories/'
export const BLOBS_PREFIX = 'blobs/'
export const MANIFESTS_PREFIX = 'manifests/'
export const QUARANTINE_PREFIX = 'quarantine/'

/**
 * Directories of local files next to those of the filesystem driver. No driver reads or writes them
 * by key.
 */
export const INGEST_DIRECTORY = 'ingest'
export const OWNER_DIRECTORY = 'owner'

export type LinkKind = 'manifest' | 'blob'

const LINK_DIRECTORIES = { manifest: '_manifests', blob: '_blobs' } as const

export function blobKey(digest: Digest): string {
  return `blobs/${shardedPath(digest)}`
}

/** Returns the key under which a damaged blob is set aside. */
export function quarantineKey(digest: Digest): string {
  return `${QUARANTINE_PREFIX}${plainPath(digest)}`
}

export function manifestKey(digest: Digest): string {
  return `manifests/${shardedPath(digest)}`
}

/**
 * Returns the prefix of everything that is kept for a repository, and of the repositories nested in
 * it. Throws a TypeError if a component of the name cannot be a directory.
 */
export function repositoryPrefix(repository: Repository): string {
  const components = [repository.registry, ...repository.name.split('/')]
  if (repository.registry.includes('/') || components.some((part) => !isComponent(part))) {
    throw new TypeError(
      `not a repository: ${JSON.stringify(`${repository.registry}/${repository.name}`)}`,
    )
  }
  return `${REPOSITORIES_PREFIX}${components.join('/')}/`
}

export function linkKey(repository: Repository, kind: LinkKind, digest: Digest): string {
  return `${repositoryPrefix(repository)}${LINK_DIRECTORIES[kind]}/${plainPath(digest)}`
}

export function tagsPrefix(repository: Repository): string {
  return `${repositoryPrefix(repository)}_tags/`
}

export function tagKey(repository: Repository, tag: string): string {
  if (tag.includes('/') || tag === '') throw new TypeError(`not a tag: ${JSON.stringify(tag)}`)
  return tagsPrefix(repository) + tag
}

export function referrersKey(repository: Repository, digest: Digest): string {
  return `${repositoryPrefix(repository)}_referrers/${plainPath(digest)}`
}

/**
 * Returns the digest in a key made by `blobKey` or `manifestKey`, or undefined for any other file.
 */
export function digestOfKey(key: string): Digest | undefined {
  const [, algorithm, shard, encoded = '', ...rest] = key.split('/')
  if (rest.length > 0 || encoded.slice(0, 2) !== shard) return undefined
  return parseDigest(`${algorithm}:${encoded}`)
}

/** Splits a key under `REPOSITORIES_PREFIX` into the repository and the rest ("_tags/latest"). */
export function repositoryOfKey(key: string): { repository: Repository; rest: string } | undefined {
  if (!key.startsWith(REPOSITORIES_PREFIX)) return undefined
  const [registry, ...components] = key.slice(REPOSITORIES_PREFIX.length).split('/')
  const end = components.findIndex((component) => component.startsWith('_'))
  if (registry === undefined || !isComponent(registry) || end < 1) return undefined
  const name = components.slice(0, end)
  if (!name.every(isComponent)) return undefined
  return {
    repository: { registry, name: name.join('/') },
    rest: components.slice(end).join('/'),
  }
}

function isComponent(text: string): boolean {
  return text !== '' && text !== '.' && text !== '..' && !text.startsWith('_')
}

function shardedPath(digest: Digest): string {
  const encoded = encodedOf(digest)
  return `${algorithmOf(digest)}/${encoded.slice(0, 2)}/${encoded}`
}

function plainPath(digest: Digest): string {
  return `${algorithmOf(digest)}/${encodedOf(digest)}`
}
