// The failure table (README, "When an upstream fails"). It maps an upstream failure, and what is
// held, to a decision: serve what is held, wait and try again, or refuse. It is pure and acts on
// nothing itself.
import type { ErrorCode } from '../../oci/errors.ts'
import type { Link } from '../../store/records/links.ts'
import {
  type FailureKind,
  type FailureReason,
  SHORT_LIMIT_MS,
} from '../../upstream/face/failure.ts'
import { type FreshnessSettings, mayServeStale } from './freshness.ts'
import type { StaleReason } from '../observer.ts'

/** What the client requested. */
export type Wanted = 'manifest' | 'blob' | 'tags' | 'referrers'

/**
 * The properties of a failure that the table depends on. An UpstreamError has them; if several
 * endpoints failed, the least final failure counts (upstream/face/failure.ts). `fault` is an error
 * in Chandlery itself, and `exhausted` means that this process has run out of file descriptors,
 * memory or the like.
 */
export interface FinalFailure {
  readonly kind: FailureKind | 'fault'
  readonly reason: FailureReason | 'fault' | 'exhausted'
  readonly status?: number | undefined
  readonly retryAfterMs?: number | undefined
}

/** A held answer that could be served instead. */
export interface HeldAnswer {
  /** When the upstream last confirmed it. This and `now` are in milliseconds since the epoch. */
  readonly checkedAt: number
  readonly now: number
  readonly settings: Pick<FreshnessSettings, 'ttlMs' | 'staleIfErrorMs' | 'whenGone'>
  /** Undefined for lists, which are not granted. */
  readonly grantedBy?: Link['grantedBy']
}

export interface Asked {
  readonly what: Wanted
  /**
   * Undefined if nothing is held, or nothing that this client may have without asking the upstream.
   */
  readonly held?: HeldAnswer | undefined
  /**
   * True if the bytes are held and the upstream was only asked whether the client may have them.
   */
  readonly onlyAccess?: boolean
  /** How long the client has been waiting, in milliseconds. Undefined if it cannot wait. */
  readonly waitedMs?: number
}

export type Decision =
  /** Serve what is held, with this `detail` in Cache-Status. */
  | { readonly act: 'serve'; readonly detail: StaleReason; readonly fwdStatus?: number }
  /** Ask all endpoints again after `ms` milliseconds. */
  | { readonly act: 'wait'; readonly ms: number }
  | {
      readonly act: 'refuse'
      readonly code: ErrorCode
      readonly status: number
      readonly headers: Record<string, string>
    }

/**
 * The most that one request waits for rate limits in total: containerd gives up on a HEAD after 30
 * s.
 */
const MAX_TOTAL_WAIT_MS = 12_000
/** Applies even if the upstream sent `Retry-After: 0`. */
const MIN_WAIT_MS = 1_000

/** The pause after a 429 without Retry-After. */
const RATE_LIMITED_PAUSE_MS = 60_000
/**
 * The longest Retry-After that is believed: an upstream may recover earlier, or send a wrong value.
 */
const MAX_RETRY_AFTER_MS = 60 * 60_000
const MAX_PAUSE_MS = 5_000
const MIN_PAUSE_MS = 1_000

/** The column "held": the `detail` of Cache-Status. */
const SERVED_AS: Readonly<Record<FinalFailure['kind'], StaleReason>> = {
  gone: 'upstream-gone',
  denied: 'denied',
  'rate-limited': 'rate-limited',
  unavailable: 'upstream-error',
  corrupt: 'upstream-error',
  fault: 'internal-error',
}

/** The column "not held": code and status. */
const REFUSED_AS: Readonly<Record<Exclude<FinalFailure['kind'], 'gone'>, [ErrorCode, number]>> = {
  // Not 401: the client would try to log in to Chandlery.
  denied: ['DENIED', 403],
  // Not 429: containerd retries that five times without a pause, and tries no other host.
  'rate-limited': ['TOOMANYREQUESTS', 503],
  unavailable: ['UNAVAILABLE', 502],
  corrupt: ['UNAVAILABLE', 502],
  fault: ['UNKNOWN', 500],
}

/**
 * Not a 500: resources are free again once other requests have ended, so a client that retries is
 * served.
 */
const REFUSED_EXHAUSTED: [ErrorCode, number] = ['UNAVAILABLE', 503]

/** Statuses that differ from the usual one of the kind, for failures to reach the upstream. */
const STATUS_OF: Partial<Record<FinalFailure['reason'], number>> = {
  'timed-out': 504,
  refused: 503,
  'name-not-resolved': 503,
  loop: 508,
}

const UNKNOWN_CODE: Readonly<Record<Wanted, ErrorCode>> = {
  manifest: 'MANIFEST_UNKNOWN',
  blob: 'BLOB_UNKNOWN',
  tags: 'NAME_UNKNOWN',
  referrers: 'MANIFEST_UNKNOWN',
}

/**
 * Whether what was granted so goes on being served when the upstream refuses us. So far every
 * grant came from our own configuration; one that only a client's own credential has given will
 * not survive the refusal of it.
 */
const SURVIVES_DENIAL: Readonly<Record<Link['grantedBy'], boolean>> = {
  anonymous: true,
  credential: true,
  imported: true,
}

/** Returns one cell of the table. */
export function decide(failure: FinalFailure, asked: Asked): Decision {
  const { held, waitedMs } = asked
  const detail = SERVED_AS[failure.kind]
  if (held !== undefined && mayServe(held, failure, detail)) {
    const { status } = failure
    return { act: 'serve', detail, ...(status !== undefined && { fwdStatus: status }) }
  }
  const ms = waitedMs === undefined ? undefined : waitFor(failure, waitedMs)
  return ms === undefined ? refusal(failure, asked) : { act: 'wait', ms }
}

function mayServe(held: HeldAnswer, failure: FinalFailure, detail: StaleReason): boolean {
  const { checkedAt, settings, grantedBy, now } = held
  const survives = grantedBy === undefined || SURVIVES_DENIAL[grantedBy]
  if (failure.kind === 'denied' && !survives) return false
  return mayServeStale(checkedAt, settings, detail, now)
}

function waitFor({ kind, retryAfterMs }: FinalFailure, waitedMs: number): number | undefined {
  if (kind !== 'rate-limited' || retryAfterMs === undefined) return undefined
  const ms = Math.max(retryAfterMs, MIN_WAIT_MS)
  return ms <= SHORT_LIMIT_MS && waitedMs + ms <= MAX_TOTAL_WAIT_MS ? ms : undefined
}

function refusal(failure: FinalFailure, { what, onlyAccess }: Asked): Decision {
  const headers = retryAfter(failure)
  if (failure.kind === 'gone') {
    return { act: 'refuse', code: UNKNOWN_CODE[what], status: 404, headers }
  }
  const isExhausted = failure.reason === 'exhausted'
  const [code, usual] = isExhausted ? REFUSED_EXHAUSTED : REFUSED_AS[failure.kind]
  const status = STATUS_OF[failure.reason] ?? usual
  // The content is held and only the permission is unknown, so this is not a bad or slow gateway.
  const isUnasked = onlyAccess === true && (status === 502 || status === 504)
  return { act: 'refuse', code, status: isUnasked ? 503 : status, headers }
}

function retryAfter({ kind, retryAfterMs }: FinalFailure): Record<string, string> {
  const ms = retryAfterMs ?? (kind === 'rate-limited' ? RATE_LIMITED_PAUSE_MS : undefined)
  if (ms === undefined) return {}
  const seconds = Math.ceil(Math.min(ms, MAX_RETRY_AFTER_MS) / 1000)
  return { 'retry-after': String(Math.max(1, seconds)) }
}

/**
 * Returns for how many milliseconds the upstream is not asked again about a held answer: until
 * Retry-After if it is rate-limiting us, otherwise for a few seconds.
 */
export function pauseAfter({ kind, retryAfterMs }: FinalFailure, ttlMs: number): number {
  const limited = kind === 'rate-limited'
  const pause = limited ? (retryAfterMs ?? RATE_LIMITED_PAUSE_MS) : Math.min(ttlMs, MAX_PAUSE_MS)
  return Math.min(Math.max(pause, MIN_PAUSE_MS), MAX_RETRY_AFTER_MS)
}
