// On whose behalf something is read. Not the client itself: only what the upstream has to see.
import type { CredentialSource } from '../upstream/credentials.ts'

/** Passed through every read; a client's own credential can take the configured one's place later. */
export interface Caller {
  readonly credentials: CredentialSource
}
