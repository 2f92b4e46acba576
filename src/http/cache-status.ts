// Cache-Status (RFC 9211): how the cache handled a request. The states are also the words of the
// access log and of the metrics' labels.
//
// The package structured-headers was tried: six times slower on every answer, it throws on a detail
// that is not ASCII, and writes Infinity and NaN as they are.

export type CacheState =
  | 'hit'
  | 'stale'
  | 'revalidated'
  | 'expired'
  | 'miss'
  | 'collapsed'
  | 'bypass'

export interface CacheOutcome {
  state: CacheState
  /** Seconds for which it is still fresh; negative since when it is not. */
  ttlSeconds?: number
  /** A word or a sentence; never anything secret. */
  detail?: string
  /** The status that the upstream answered. */
  fwdStatus?: number
  /** Whether what came was kept. */
  stored?: boolean
}

const CACHE_NAME = 'chandlery'
const MAX_DETAIL_LENGTH = 256
const MAX_INTEGER = 999_999_999_999_999

/** An sf-token (RFC 8941 3.3.4). */
const TOKEN = /^[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*$/

const FORWARDED: Readonly<Record<CacheState, string>> = {
  hit: 'hit',
  stale: 'hit',
  revalidated: 'fwd=stale',
  expired: 'fwd=stale',
  miss: 'fwd=uri-miss',
  collapsed: 'fwd=uri-miss',
  bypass: 'fwd=bypass',
}

/** The header's value: what the state means, then only what the outcome says. */
export function formatCacheStatus(outcome: CacheOutcome): string {
  const { state, fwdStatus, ttlSeconds } = outcome
  const detail = outcome.detail ?? (state === 'revalidated' ? 'unchanged' : undefined)
  const forwarded = FORWARDED[state] !== 'hit'
  const parts = [CACHE_NAME, FORWARDED[state]]
  if (forwarded && fwdStatus !== undefined) parts.push(`fwd-status=${integer(fwdStatus)}`)
  if (ttlSeconds !== undefined) parts.push(`ttl=${integer(ttlSeconds)}`)
  if (forwarded && outcome.stored === true) parts.push('stored')
  if (state === 'collapsed') parts.push('collapsed')
  if (detail !== undefined) parts.push(`detail=${formatDetail(detail)}`)
  return parts.join('; ')
}

/** Within sf-integer's bounds: 'forever' is a number as well. */
function integer(value: number): number {
  const whole = Math.trunc(value) || 0
  return Math.min(Math.max(whole, -MAX_INTEGER), MAX_INTEGER)
}

/** An sf-token where it can be one, else an sf-string, which holds visible ASCII and spaces only. */
function formatDetail(detail: string): string {
  const text = detail.slice(0, MAX_DETAIL_LENGTH)
  if (TOKEN.test(text)) return text
  const safe = text.replaceAll(/[^\x20-\x7e]/g, '?').replaceAll(/["\\]/g, '\\$&')
  return `"${safe}"`
}
