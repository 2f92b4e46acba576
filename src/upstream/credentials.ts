// What proves to an upstream who we are. The credential is an argument of every upstream call,
// never looked up inside it, so that a client's own can be passed through.

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

export interface CredentialSource {
  /** The credential for an endpoint's `host` (host[:port], the `configs` key). */
  credentialFor(endpoint: { readonly host: string }): Promise<Credential>
}

export const ANONYMOUS: Credential = { kind: 'anonymous' }
