// The Cache-Status header (RFC 9211): how the cache handled a request. The access log and the metric
// labels use the same states.
//
// structured-headers was tried and is worse here: six times slower for every response, it throws on a
// detail that is not ASCII, and it writes Infinity and NaN as they are.

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
  /** How much longer the response is fresh, in seconds; negative if it is stale. */
  ttlSeconds?: number
  /**
   * How many seconds ago the upstream gave or last confirmed what is served, for the Age header. Absent
   * if the upstream was asked for this response.
   */
  ageSeconds?: number
  /** A word or a sentence without secrets. */
  detail?: string
  /** The status of the upstream's response. */
  fwdStatus?: number
  /** Whether the upstream's response was kept. */
  stored?: boolean
}

const CACHE_NAME = 'chandlery'
const MAX_DETAIL_LENGTH = 256
const MAX_INTEGER = 999_999_999_999_999

/** An sf-token (RFC 8941 section 3.3.4). */
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

/** Returns the value of the header. */
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

/** Clamps to the bounds of an sf-integer: a ttl of 'forever' is Infinity. */
function integer(value: number): number {
  const whole = Math.trunc(value) || 0
  return Math.min(Math.max(whole, -MAX_INTEGER), MAX_INTEGER)
}

/** Formats an sf-token if the detail can be one, else an sf-string, which holds only printable ASCII. */
function formatDetail(detail: string): string {
  const text = detail.slice(0, MAX_DETAIL_LENGTH)
  if (TOKEN.test(text)) return text
  const safe = text.replaceAll(/[^\x20-\x7e]/g, '?').replaceAll(/["\\]/g, '\\$&')
  return `"${safe}"`
}
