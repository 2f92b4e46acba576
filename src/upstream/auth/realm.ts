// Which token server a challenge may send us to. The realm is the registry's input, and a
// credential that goes to the wrong one is stolen (protocol.md B1): pure rules, no I/O.
import { getDomain } from 'tldts'

import type { TokenCredential } from '../credentials/credentials.ts'
import type { Endpoint } from '../routing/endpoint.ts'
import { MAX_HOSTNAME } from '../network/redirect.ts'

const MAX_REALM = 4096

/** A realm that is not asked; the message is for the operator. */
export class RealmRefused extends Error {
  override readonly name = 'RealmRefused'
}

/** The realm as a URL, relative ones against the request that was challenged; undefined: no http(s) URL. */
export function parseRealm(realm: string | undefined, requested: URL): URL | undefined {
  if (realm === undefined || realm === '' || !URL.canParse(realm, requested)) return undefined
  const url = new URL(realm, requested)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return undefined
  url.hash = ''
  const isTooLong = url.hostname.length > MAX_HOSTNAME || url.href.length > MAX_REALM
  return isTooLong ? undefined : url
}

/** Throws RealmRefused when the credential may not go to the realm; nothing to steal: anywhere. */
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

/** Whether the operator named the realm's host: then he also knows where it is. */
export function isListed(realm: URL, realms: readonly string[] | undefined): boolean {
  return realms?.some((entry) => names(entry.toLowerCase(), realm)) === true
}

function names(entry: string, realm: URL): boolean {
  if (entry.includes('://')) return URL.canParse(entry) && new URL(entry).origin === realm.origin
  return entry === realm.host || entry === realm.hostname
}

/** The same host, or one registrable domain; shared hosting suffixes (github.io) count as public. */
function isSameOwner(one: string, other: string): boolean {
  if (one === other) return true
  const domain = getDomain(one, { allowPrivateDomains: true })
  return domain !== null && domain === getDomain(other, { allowPrivateDomains: true })
}
