// How long and how much an upstream may take: every bound in one place, so that tests can scale them.

export interface UpstreamLimits {
  /** DNS, TCP and TLS together. */
  readonly connectTimeoutMs: number
  /** From the end of the request to the head of the response. */
  readonly headersTimeoutMs: number
  /** Between two chunks of a body. There is no limit for a whole body: a big blob may take hours. */
  readonly bodyStallMs: number
  /** A token request with its redirects, as a whole. */
  readonly tokenTimeoutMs: number
  /**
   * One endpoint's manifest, list or answer to a HEAD as a whole: all requests and pages it takes.
   */
  readonly documentTimeoutMs: number
  /** The largest response head. */
  readonly headerBytes: number
  /** Connections per host and lane, so that blobs never hold up manifests. */
  readonly connections: number
}

export const DEFAULT_LIMITS: UpstreamLimits = {
  connectTimeoutMs: 10_000,
  headersTimeoutMs: 30_000,
  bodyStallMs: 15_000,
  tokenTimeoutMs: 30_000,
  documentTimeoutMs: 60_000,
  headerBytes: 64 * 1024,
  connections: 64,
}

const MAX_ATTEMPT_MS = 1500
const ATTEMPTS = 3

/**
 * Returns for how long one of several addresses of a name is tried before the next one. Node's default
 * of 250 ms is less than distant hosts need.
 */
export function attemptTimeoutMs(connectTimeoutMs: number): number {
  return Math.min(MAX_ATTEMPT_MS, Math.ceil(connectTimeoutMs / ATTEMPTS))
}
