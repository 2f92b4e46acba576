// What proves to an upstream who we are. The credential is an argument of every upstream call,
// never looked up inside it, so that a client's own can be passed through.
import { createHmac, randomBytes } from 'node:crypto'

export type Credential =
  | { readonly kind: 'anonymous' }
  | {
      readonly kind: 'basic'
      readonly username: string
      readonly password: string
      /** Token servers (host[:port]) that may see it besides the registry's own domain. */
      readonly realms?: readonly string[]
    }
  | {
      readonly kind: 'identity'
      readonly token: string
      readonly username?: string
      readonly realms?: readonly string[]
    }
  /** A token that somebody else got for this one registry: sent as it is. */
  | { readonly kind: 'bearer'; readonly token: string; readonly username?: string }

/** What a token server can be asked with. */
export type TokenCredential = Exclude<Credential, { readonly kind: 'bearer' }>

/** Who would be shown a credential. */
export interface CredentialSeeker {
  /** host[:port], the `configs` key. */
  readonly host: string
  /** A client named it, the operator did not: nothing that is for every host is for it. */
  readonly byClient?: boolean
  /** Fingerprints of those that were tried: another one is wanted, if there is one. */
  readonly except?: ReadonlySet<string>
}

export interface CredentialSource {
  /** The credential for an endpoint, in bounded time. */
  credentialFor(endpoint: CredentialSeeker): Promise<Credential>
  /** The registry at this host does not know it: others come first for a while. */
  refused?(host: string, credential: Credential): void
}

export const ANONYMOUS: Credential = { kind: 'anonymous' }

const FINGERPRINT_KEY = randomBytes(32)

/**
 * Tells credentials apart in keys, for as long as this process lives; nobody can test guesses with
 * it.
 */
export function fingerprintOf(credential: Credential): string {
  if (credential.kind === 'anonymous') return 'anonymous'
  return createHmac('sha256', FINGERPRINT_KEY)
    .update(JSON.stringify(partsOf(credential)))
    .digest('base64url')
}

function partsOf(credential: Exclude<Credential, { kind: 'anonymous' }>): unknown[] {
  const { kind } = credential
  if (kind === 'bearer') return [kind, credential.username, credential.token]
  const secret = kind === 'basic' ? credential.password : credential.token
  return [kind, credential.username, secret, credential.realms]
}
