// Which credentials there are for a host and where they are written, for people to read: never a
// secret, and no credential helper is run for it.
import type { AuthOptions } from './configured.ts'
import type { Credential, CredentialSeeker } from './credentials.ts'
import { parseDockerConfig } from './docker-config.ts'
import { WatchedFile } from '../../files/watched-file.ts'

export type CredentialSummary =
  | {
      readonly kind: 'password' | 'identity token' | 'registry token'
      readonly username?: string
    }
  | { readonly kind: 'credential helper'; readonly program: string }

export interface CredentialsSummary {
  /** `configs."mirror.example.com"`, or the path of docker's config.json. */
  readonly from: string
  /** As written; of docker's file the first that there is is used. Empty: anonymous. */
  readonly all: readonly CredentialSummary[]
  /**
   * Which of several is used is found out request by request: the one with most requests left,
   * equals in turn.
   */
  readonly choice?: 'most-left'
  /** Why it cannot be read. */
  readonly problem?: string
}

/** Of a `configs` entry; undefined: it has none. */
export function summariseAuth(
  auth: readonly AuthOptions[] = [],
  from: string,
): CredentialsSummary | undefined {
  const all = auth.filter(isWhole).map(({ identity_token: token, username }): CredentialSummary => {
    const kind = token === undefined ? 'password' : 'identity token'
    return username === undefined ? { kind } : { kind, username }
  })
  if (all.length === 0) return undefined
  return { from, all, ...(all.length > 1 && { choice: 'most-left' }) }
}

/** Of docker's config.json. Never rejects. */
export async function summariseDockerConfig(
  path: string,
  { host, byClient }: CredentialSeeker,
): Promise<CredentialsSummary> {
  try {
    const file = new WatchedFile(path, (bytes) => parseDockerConfig(bytes.toString()))
    const config = await file.current()
    if (config === undefined) return { from: path, all: [], problem: 'there is no such file' }
    const suffix = config.helper(host) ?? (byClient === true ? undefined : config.store)
    const stored = config.auth(host)
    const all: CredentialSummary[] = []
    if (suffix) all.push({ kind: 'credential helper', program: `docker-credential-${suffix}` })
    if (stored !== undefined && stored.kind !== 'anonymous') all.push(summarise(stored))
    return { from: path, all }
  } catch (error) {
    return { from: path, all: [], problem: error instanceof Error ? error.message : String(error) }
  }
}

/** As configured-credentials.ts reads it: a password alone is none. */
function isWhole({ identity_token: token, auth, username, password }: AuthOptions): boolean {
  const isUser = username !== undefined && password !== undefined
  return token !== undefined || auth !== undefined || isUser
}

const KINDS = {
  basic: 'password',
  identity: 'identity token',
  bearer: 'registry token',
} as const

function summarise(credential: Exclude<Credential, { kind: 'anonymous' }>): CredentialSummary {
  const kind = KINDS[credential.kind]
  const { username } = credential
  return username === undefined ? { kind } : { kind, username }
}
