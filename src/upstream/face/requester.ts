// On whose behalf an upstream is asked: what it gets to see of that.
import type { CredentialSource } from '../credentials/credentials.ts'
import type { UpstreamFace } from '../upstream.ts'

export interface Requester {
  readonly credentials: CredentialSource
  /** The CDN-Loop (RFC 8586) that the request came with, bounded: it is sent on, with our name added. */
  readonly cdnLoop?: string
  /** Absent where there is but one. */
  readonly epoch?: Epoch
}

/** A configuration's time: what a request begins is asked to its end as it was when it came in. */
export interface Epoch {
  /** Of each time its own. */
  readonly number: number
  readonly upstream: UpstreamFace
}
