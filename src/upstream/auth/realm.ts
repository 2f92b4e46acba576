// Which token servers a challenge may send us to. The realm comes from the registry, and a credential
// that is sent to the wrong one is stolen. Pure.
import { getDomain } from 'tldts'

import type { TokenCredential } from '../credentials/credentials.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { MAX_HOSTNAME } from '../network/redirect.ts'

const MAX_REALM = 4096

/** The realm must not be asked. The message is for the operator. */
export class RealmRefused extends Error {
  override readonly name = 'RealmRefused'
}

/**
 * Returns the realm as a URL, resolved against the challenged request; undefined if it is not
 * http(s).
 */
export function parseRealm(realm: string | undefined, requested: URL): URL | undefined {
  if (realm === undefined || realm === '' || !URL.canParse(realm, requested)) return undefined
  const url = new URL(realm, requested)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return undefined
  url.hash = ''
  const isTooLong = url.hostname.length > MAX_HOSTNAME || url.href.length > MAX_REALM
  return isTooLong ? undefined : url
}

/**
 * Throws RealmRefused if the credential must not be sent to the realm. Anonymous requests may go
 * anywhere.
 */
export function checkRealm(realm: URL, endpoint: Endpoint, credential: TokenCredential): void {
  if (realm.username !== '' || realm.password !== '') {
    throw new RealmRefused(`its token server ${realm.host} is given with a password`)
  }
  if (credential.kind === 'anonymous') return
  if (endpoint.base.protocol === 'https:' && realm.protocol === 'http:') {
    throw new RealmRefused(
      `its token server http://${realm.host} would get our password unencrypted`,
    )
  }
  if (isListed(realm, credential.realms) || isSameOwner(realm.hostname, endpoint.base.hostname))
    return
  const cure = `add "${realm.host}" to configs."${endpoint.host}".auth.realms if it may see our password`
  throw new RealmRefused(`its token server ${realm.host} is on another domain: ${cure}`)
}

/** Reports whether the operator named the realm's host, and so vouches for its address too. */
export function isListed(realm: URL, realms: readonly string[] | undefined): boolean {
  return realms?.some((entry) => names(entry.toLowerCase(), realm)) === true
}

function names(entry: string, realm: URL): boolean {
  if (entry.includes('://')) return URL.canParse(entry) && new URL(entry).origin === realm.origin
  return entry === realm.host || entry === realm.hostname
}

/**
 * Reports whether both have the same host or registrable domain. Shared hosting suffixes
 * (github.io) count as public.
 */
function isSameOwner(one: string, other: string): boolean {
  if (one === other) return true
  const domain = getDomain(one, { allowPrivateDomains: true })
  return domain !== null && domain === getDomain(other, { allowPrivateDomains: true })
}
