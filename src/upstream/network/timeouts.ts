// How long and how much an upstream may take: every bound in one place, so that tests can scale it.

export interface UpstreamLimits {
  /** TCP and TLS together, the name looked up included. */
  readonly connectTimeoutMs: number
  /** From the request sent to the head received. */
  readonly headersTimeoutMs: number
  /** Between two pieces of a body; never the whole of it: a big blob may take hours. */
  readonly bodyStallMs: number
  /** A token request with its redirects, as a whole. */
  readonly tokenTimeoutMs: number
  /**
   * One endpoint's manifest, list or answer to a HEAD as a whole: all requests and pages it takes.
   */
  readonly documentTimeoutMs: number
  /** Of one response head. */
  readonly headerBytes: number
  /** Per host, counted apart for content and for everything else: blobs never hold up manifests. */
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
 * For how long one of several addresses of a name is tried before the next one is, of the time that
 * a connection may take. Node's own 250 ms is less than far links need.
 */
export function attemptTimeoutMs(connectTimeoutMs: number): number {
  return Math.min(MAX_ATTEMPT_MS, Math.ceil(connectTimeoutMs / ATTEMPTS))
}
