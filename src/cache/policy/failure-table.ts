// The failure table (README, "When an upstream fails"): what the upstreams answered in the end, and
// what is held, to what is done about it. Pure: it neither asks, nor waits, nor serves.
import type { ErrorCode } from '../../oci/errors.ts'
import type { Link } from '../../store/records/links.ts'
import {
  type FailureKind,
  type FailureReason,
  SHORT_LIMIT_MS,
} from '../../upstream/face/failure.ts'
import { type FreshnessSettings, mayServeStale } from './freshness.ts'
import type { StaleReason } from '../observer.ts'

/** What was asked for. */
export type Wanted = 'manifest' | 'blob' | 'tags' | 'referrers'

/**
 * What decides of a failure: an UpstreamError is one. Of several endpoints' it is the least final
 * (upstream/face/failure.ts). 'fault': nothing that an upstream did; 'exhausted': this process has run out
 * of file descriptors, memory or the like.
 */
export interface FinalFailure {
  readonly kind: FailureKind | 'fault'
  readonly reason: FailureReason | 'fault' | 'exhausted'
  readonly status?: number | undefined
  readonly retryAfterMs?: number | undefined
}

/** What could be served instead. */
export interface HeldAnswer {
  /** When the upstream last said so; this and `now` in milliseconds. */
  readonly checkedAt: number
  readonly now: number
  readonly settings: Pick<FreshnessSettings, 'ttlMs' | 'staleIfErrorMs' | 'whenGone'>
  /** Undefined: by nobody in particular, as with lists. */
  readonly grantedBy?: Link['grantedBy']
}

export interface Asked {
  readonly what: Wanted
  /** Undefined: nothing is held, or nothing that this client may have without the upstream's word. */
  readonly held?: HeldAnswer | undefined
  /** The bytes are held, and the upstream was only asked whether the client may have them. */
  readonly onlyAccess?: boolean
  /** How long the client has been waiting, in milliseconds; undefined: it cannot wait. */
  readonly waitedMs?: number
}

export type Decision =
  /** Serve what is held, with this `detail` in Cache-Status. */
  | { readonly act: 'serve'; readonly detail: StaleReason; readonly fwdStatus?: number }
  /** Ask all of them again after so many milliseconds. */
  | { readonly act: 'wait'; readonly ms: number }
  | {
      readonly act: 'refuse'
      readonly code: ErrorCode
      readonly status: number
      readonly headers: Record<string, string>
    }

/** All that a client waits for rate limits: containerd gives a HEAD up after 30 s. */
const LONGEST_WAITS_MS = 12_000
/** Also where the upstream said 0. */
const SHORTEST_WAIT_MS = 1_000

/** Where the upstream names no time. */
const RATE_LIMITED_PAUSE_MS = 60_000
/** However long an upstream tells us to wait: it may recover before, and it may be wrong. */
const LONGEST_RETRY_AFTER_MS = 60 * 60_000
const LONGEST_PAUSE_MS = 5_000
const SHORTEST_PAUSE_MS = 1_000

/** The column "held". */
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
  // Not 401: that would make the client log in to us.
  denied: ['DENIED', 403],
  // Not 429: containerd repeats that five times without a pause, and asks nobody else.
  'rate-limited': ['TOOMANYREQUESTS', 503],
  unavailable: ['UNAVAILABLE', 502],
  corrupt: ['UNAVAILABLE', 502],
  fault: ['UNKNOWN', 500],
}

/** It is over as soon as something else has ended, and a client that comes back then is served. */
const REFUSED_EXHAUSTED: [ErrorCode, number] = ['UNAVAILABLE', 503]

/** What is no fault of the upstream's answer, but of reaching it. */
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

/** One cell of the table. */
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
  const ms = Math.max(retryAfterMs, SHORTEST_WAIT_MS)
  return ms <= SHORT_LIMIT_MS && waitedMs + ms <= LONGEST_WAITS_MS ? ms : undefined
}

function refusal(failure: FinalFailure, { what, onlyAccess }: Asked): Decision {
  const headers = retryAfter(failure)
  if (failure.kind === 'gone') {
    return { act: 'refuse', code: UNKNOWN_CODE[what], status: 404, headers }
  }
  const isExhausted = failure.reason === 'exhausted'
  const [code, usual] = isExhausted ? REFUSED_EXHAUSTED : REFUSED_AS[failure.kind]
  const status = STATUS_OF[failure.reason] ?? usual
  // Whatever kept it from answering: it is not the content that is missing.
  const isUnasked = onlyAccess === true && (status === 502 || status === 504)
  return { act: 'refuse', code, status: isUnasked ? 503 : status, headers }
}

function retryAfter({ kind, retryAfterMs }: FinalFailure): Record<string, string> {
  const ms = retryAfterMs ?? (kind === 'rate-limited' ? RATE_LIMITED_PAUSE_MS : undefined)
  if (ms === undefined) return {}
  const seconds = Math.ceil(Math.min(ms, LONGEST_RETRY_AFTER_MS) / 1000)
  return { 'retry-after': String(Math.max(1, seconds)) }
}

/**
 * For how many milliseconds the upstream is not asked again about what is held: until Retry-After
 * where it limits us, else a few seconds.
 */
export function pauseAfter({ kind, retryAfterMs }: FinalFailure, ttlMs: number): number {
  const limited = kind === 'rate-limited'
  const pause = limited
    ? (retryAfterMs ?? RATE_LIMITED_PAUSE_MS)
    : Math.min(ttlMs, LONGEST_PAUSE_MS)
  return Math.min(Math.max(pause, SHORTEST_PAUSE_MS), LONGEST_RETRY_AFTER_MS)
}
