// The grammar of names: registries, repositories, tags, and image references as people write them
// (distribution-spec, Pull; Docker's rules for the parts that are left out).

import { algorithmOf, type Digest, encodedOf, parseDigest } from './digest.ts'
import { OciError } from './errors.ts'

/** A repository by its canonical name as clients see it. It is the cache key. */
export interface Repository {
  readonly registry: string
  readonly name: string
}

export interface ImageReference {
  repository: Repository
  tag?: string
  digest?: Digest
}

const DOCKER_HUB = 'docker.io'
const DOCKER_HUB_ALIASES = new Set(['index.docker.io', 'registry-1.docker.io'])

/** In bytes. Many clients allow 255 for host and name together, so no name is longer. */
const MAX_NAME_LENGTH = 255
const MAX_REFERENCE_LENGTH = 1024

const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/
const HOST_LABEL = '[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?'
const HOST = new RegExp(
  `^(?:${HOST_LABEL}(?:\\.${HOST_LABEL})*|\\[[a-f0-9:.]+\\])(?::[0-9]{1,5})?$`,
)
const DIGEST_TAG = /^sha(?:256|512)-[a-f0-9]{64}(?:\.(?:sig|att|sbom))?$/

/** Reports whether the text is a repository name, without a registry, of at most 255 bytes. */
export function isRepositoryName(text: string): boolean {
  return text.length <= MAX_NAME_LENGTH && NAME.test(text)
}

/** Reports whether the text is a tag: at most 128 characters. */
export function isTag(text: string): boolean {
  return TAG.test(text)
}

/** Reports whether the text is `host`, `host:port` or `[address]:port` in lower case. */
export function isRegistry(text: string): boolean {
  return text.length <= MAX_NAME_LENGTH && HOST.test(text)
}

/** Returns the registry's canonical name: lower case, and docker.io for each of Docker Hub's hosts. */
export function normaliseRegistry(host: string): string {
  const lower = host.toLowerCase()
  return DOCKER_HUB_ALIASES.has(lower) ? DOCKER_HUB : lower
}

/** Reports whether a first path component names a registry: it has a dot or a colon, or is localhost. */
export function looksLikeRegistry(component: string): boolean {
  return /[.:]/.test(component) || component === 'localhost'
}

/**
 * Reads `[registry/]name[:tag][@digest]` as Docker does. Without a registry it means the default
 * one; a name of one component on docker.io gets `library/`; no tag is assumed. Throws OciError
 * NAME_INVALID, TAG_INVALID or DIGEST_INVALID.
 */
export function parseImage(text: string, defaultRegistry: string = DOCKER_HUB): ImageReference {
  if (text.length > MAX_REFERENCE_LENGTH) {
    throw new OciError('NAME_INVALID', 'the image reference is longer than 1,024 characters')
  }
  const { rest, tag, digest } = splitSuffixes(text)
  const reference: ImageReference = { repository: parseRepository(rest, defaultRegistry) }
  if (tag !== undefined) reference.tag = tag
  if (digest !== undefined) reference.digest = digest
  return reference
}

function splitSuffixes(text: string): { rest: string; tag?: string; digest?: Digest } {
  const at = text.indexOf('@')
  const named = at < 0 ? text : text.slice(0, at)
  const digest = at < 0 ? undefined : readDigest(text.slice(at + 1))
  const colon = named.indexOf(':', named.lastIndexOf('/') + 1)
  const rest = colon < 0 ? named : named.slice(0, colon)
  const tag = colon < 0 ? undefined : readTag(named.slice(colon + 1))
  return { rest, ...(tag !== undefined && { tag }), ...(digest !== undefined && { digest }) }
}

function readDigest(text: string): Digest {
  const digest = parseDigest(text)
  if (digest !== undefined) return digest
  throw new OciError(
    'DIGEST_INVALID',
    `${quote(text)} is not a digest: write sha256: and 64, or sha512: and 128 lower-case hex digits`,
  )
}

function readTag(text: string): string {
  if (isTag(text)) return text
  throw new OciError(
    'TAG_INVALID',
    `${quote(text)} is not a tag: up to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-'`,
  )
}

function parseRepository(text: string, defaultRegistry: string): Repository {
  if (/^[a-z]+:\/\//i.test(text)) {
    throw new OciError('NAME_INVALID', `${quote(text)}: leave out the scheme, as in ghcr.io/name`)
  }
  const slash = text.indexOf('/')
  const first = slash < 0 ? '' : text.slice(0, slash)
  const named = looksLikeRegistry(first) || first !== first.toLowerCase()
  const registry = normaliseRegistry(named ? first : defaultRegistry)
  const name = completeName(registry, named ? text.slice(slash + 1) : text)
  if (!isRegistry(registry)) {
    throw new OciError(
      'NAME_INVALID',
      `${quote(registry)} is not a registry: write host or host:port`,
    )
  }
  if (!isRepositoryName(name) || /^[a-f0-9]{64}$/.test(text)) {
    throw new OciError('NAME_INVALID', `${quote(text)} is not a repository name: ${NAME_RULE}`)
  }
  return { registry, name }
}

const NAME_RULE = `lower-case letters and digits, separated by '.', '_', '__', '-' or '/', up to 255`

function completeName(registry: string, name: string): string {
  return registry === DOCKER_HUB && name !== '' && !name.includes('/') ? `library/${name}` : name
}

/** Returns the tag that lists the referrers in a registry without the API (distribution-spec, Referrers Tag Schema). */
export function referrersTag(digest: Digest): string {
  return `${algorithmOf(digest).slice(0, 32)}-${encodedOf(digest).slice(0, 64)}`
}

/** Reports whether a tag is a referrers tag or one of cosign's, which change whenever an image is signed. */
export function isDigestTag(tag: string): boolean {
  return DIGEST_TAG.test(tag)
}

function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
