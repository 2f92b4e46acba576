// Docker's config.json (and podman's auth.json): which credential it has for a registry
// (protocol.md F4). Reads text; the file and the helpers it names are others'.
import { isObject } from '../../oci/descriptor.ts'
import type { Credential, TokenCredential } from './credentials.ts'
import { asText, parseObject } from '../../oci/json-object.ts'

export interface DockerConfig {
  /** The credential stored in the file for a host[:port]. */
  auth(host: string): Credential | undefined
  /** The suffix of the helper to ask for a host first, before what is stored. */
  helper(host: string): string | undefined
  /** The helper to ask for every other host. */
  readonly store: string | undefined
}

const HUB_HOSTS = ['index.docker.io', 'docker.io', 'registry-1.docker.io']
/** Under this key docker keeps the Hub's credential, and asks helpers for it. */
const HUB_URL = 'https://index.docker.io/v1/'

/** Reads the file's text. Throws TypeError, without quoting it: it holds secrets. */
export function parseDockerConfig(text: string): DockerConfig {
  const json = parseObject(text)
  if (json === undefined) throw new TypeError('is no JSON object')
  // The older .dockercfg is what is now under "auths".
  const { auths = 'credsStore' in json ? {} : json, credHelpers, credsStore } = json
  return {
    auth: (host) => readAuth(entryFor(auths, host)),
    helper: (host) => asText(entryFor(credHelpers, host)),
    store: asText(credsStore),
  }
}

/** What a credential helper is asked for. */
export function serverUrl(host: string): string {
  return HUB_HOSTS.includes(host) ? HUB_URL : host
}

/** The identity token that stands in a password's place is marked so. */
export function credentialOf(username: string, secret: string): TokenCredential | undefined {
  if (secret === '') return undefined
  if (username === '<token>') return { kind: 'identity', token: secret }
  return username === '' ? undefined : { kind: 'basic', username, password: secret }
}

function entryFor(entries: unknown, host: string): unknown {
  if (!isObject(entries)) return undefined
  if (Object.hasOwn(entries, host)) return entries[host]
  const wanted = HUB_HOSTS.includes(host) ? HUB_HOSTS : [host]
  const key = Object.keys(entries).find((name) => wanted.includes(hostOf(name) ?? ''))
  return key === undefined ? undefined : entries[key]
}

/**
 * The host a key is about. With a scheme any path is passed over, as docker does; without one a
 * path means a part of the registry (podman), which is not asked for here.
 */
function hostOf(key: string): string | undefined {
  const [, scheme, host, path = ''] = /^(https?:\/\/)?([^/]+)(.*)$/i.exec(key) ?? []
  const isWhole = scheme !== undefined || /^(\/v[12])?\/?$/.test(path)
  return isWhole ? host?.toLowerCase() : undefined
}

function readAuth(entry: unknown): Credential | undefined {
  if (!isObject(entry)) return undefined
  const [username = '', password = ''] = readPair(entry)
  const named = username !== '' && username !== '<token>' ? { username } : {}
  const ready = asText(entry['registrytoken'])
  if (ready !== undefined && ready !== '') return { kind: 'bearer', token: ready, ...named }
  const identity = asText(entry['identitytoken'])
  if (identity !== undefined && identity !== '') {
    return { kind: 'identity', token: identity, ...named }
  }
  return credentialOf(username, password)
}

function readPair(entry: Record<string, unknown>): [string, string] | [] {
  const auth = asText(entry['auth'])
  if (auth !== undefined && auth !== '') return splitAuth(auth) ?? []
  return [asText(entry['username']) ?? '', asText(entry['password']) ?? '']
}

/** base64 of user:password, split at the first colon; some writers pad with NULs. */
export function splitAuth(auth: string): [username: string, password: string] | undefined {
  const text = Buffer.from(auth, 'base64').toString()
  const colon = text.indexOf(':')
  if (colon <= 0) return undefined
  return [text.slice(0, colon), text.slice(colon + 1).replace(/\0+$/, '')]
}
