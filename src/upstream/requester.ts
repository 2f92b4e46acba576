// On whose behalf an upstream is asked: what it gets to see of that.
import type { CredentialSource } from './credentials.ts'

export interface Requester {
  readonly credentials: CredentialSource
  /** The CDN-Loop (RFC 8586) that the request came with, bounded: it is sent on, with our name added. */
  readonly cdnLoop?: string
}
