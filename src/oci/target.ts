// Reads what a path under /v2/ asks for (distribution-spec, Endpoints). The name is made safe here, not
// validated: upstream/routing/registries.ts decides which registry it belongs to.

import { OciError } from './errors.ts'

export type Target =
  | { kind: 'ping'; prefix?: string }
  | { kind: 'catalog'; prefix?: string }
  | { kind: 'manifest'; prefix?: string; name: string; reference: string }
  | { kind: 'blob'; prefix?: string; name: string; digest: string }
  | { kind: 'tags'; prefix?: string; name: string }
  | { kind: 'referrers'; prefix?: string; name: string; digest: string }
  | { kind: 'upload'; prefix?: string; name: string }

/** Far more than a registry, a name of 255 characters, a verb and an escaped sha512 digest need. */
const MAX_PATH_LENGTH = 4096

/** Characters that no decoded component may hold: all but visible ASCII, and the delimiters of URLs. */
const UNSAFE = /[^\x21-\x7e]|["#%/<>?\\^`{|}]/

/**
 * Reads an undecoded path without its query. Returns undefined if it is not a path of this API (404).
 * Throws OciError NAME_INVALID if it is one, but too long or with a bad escape, an escaped slash, an
 * empty component (a trailing slash included, except after `/v2/` and in uploads), `.` or `..`.
 * References and digests are returned as they stand: the caller refuses illegal ones.
 */
export function parseTarget(rawPath: string): Target | undefined {
  const split = /^\/(?:(?!v2(?:\/|$))([^/]+)\/)?v2(?:\/(.*))?$/s.exec(rawPath)
  if (split === null) return undefined
  if (rawPath.length > MAX_PATH_LENGTH) {
    throw new OciError('NAME_INVALID', `the path is longer than ${MAX_PATH_LENGTH} characters`)
  }
  const prefix = split[1] === undefined ? {} : { prefix: decode(split[1]) }
  if (split[2] === undefined || split[2] === '') return { kind: 'ping', ...prefix }
  const target = match(split[2].split('/'))
  return target && { ...target, ...prefix }
}

/**
 * The last suffix wins, because a name may have components called manifests, blobs or tags. Unknown
 * paths are recognised before anything is decoded, so that they stay a plain 404.
 */
function match(raw: readonly string[]): Target | undefined {
  if (raw.length === 1 && raw[0] === '_catalog') return { kind: 'catalog' }
  const verb = raw.at(-2)
  const last = raw.at(-1) ?? ''
  if (raw.length > 2 && last !== '' && !(verb === 'blobs' && last === 'uploads')) {
    const name = raw.slice(0, -2)
    if (verb === 'manifests') {
      return { kind: 'manifest', name: join(name), reference: decode(last) }
    }
    if (verb === 'blobs') return { kind: 'blob', name: join(name), digest: decode(last) }
    if (verb === 'referrers') return { kind: 'referrers', name: join(name), digest: decode(last) }
    if (verb === 'tags' && last === 'list') return { kind: 'tags', name: join(name) }
  }
  return matchUpload(raw) ?? refuseEmpty(raw)
}

/** Matches `/blobs/uploads` and anything below it: each registry names its upload sessions itself. */
function matchUpload(raw: readonly string[]): Target | undefined {
  const at = raw.findLastIndex((part, index) => part === 'uploads' && raw[index - 1] === 'blobs')
  return at < 2 ? undefined : { kind: 'upload', name: join(raw.slice(0, at - 1)) }
}

function refuseEmpty(raw: readonly string[]): undefined {
  for (const component of raw) decode(component)
  return undefined
}

function join(components: readonly string[]): string {
  return components.map(decode).join('/')
}

function decode(component: string): string {
  let text: string
  try {
    text = decodeURIComponent(component)
  } catch {
    throw new OciError('NAME_INVALID', 'the path holds an escape that is not valid')
  }
  if (text === '' || text === '.' || text === '..') {
    throw new OciError('NAME_INVALID', "the path holds an empty component, '.' or '..'")
  }
  if (UNSAFE.test(text)) {
    throw new OciError('NAME_INVALID', 'the path holds a character that no name may contain')
  }
  return text
}
