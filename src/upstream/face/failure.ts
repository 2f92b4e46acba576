// Why an upstream did not give what was asked for, in the words that cache/, the log and the metrics
// share. How a failure is recognised is in diagnosis/.

/** From least to most final: what may be different on the next try comes first. */
const KINDS = ['unavailable', 'rate-limited', 'corrupt', 'denied', 'gone'] as const

export type FailureKind = (typeof KINDS)[number]

/** The row of the failure table that each reason belongs to. */
const KIND_OF = {
  blocked: 'denied',
  'needs-credentials': 'denied',
  'bad-credentials': 'denied',
  denied: 'denied',
  'not-public': 'denied',
  'rate-limited': 'rate-limited',
  'plain-http': 'unavailable',
  'not-plain-http': 'unavailable',
  'not-trusted': 'unavailable',
  tls: 'unavailable',
  cut: 'unavailable',
  'timed-out': 'unavailable',
  'name-not-resolved': 'unavailable',
  refused: 'unavailable',
  reset: 'unavailable',
  'server-error': 'unavailable',
  'not-found': 'gone',
  'wrong-digest': 'corrupt',
  'wrong-size': 'corrupt',
  'not-a-manifest': 'corrupt',
  'too-large': 'corrupt',
  'redirect-refused': 'unavailable',
  'realm-refused': 'denied',
  'token-refused': 'denied',
  loop: 'unavailable',
  protocol: 'unavailable',
} as const satisfies Record<string, FailureKind>

export type FailureReason = keyof typeof KIND_OF

export interface FailureDetails {
  /** The endpoint's `key`. Never a URL with a query or a user name. */
  readonly endpoint: string
  /** The HTTP status, if there was an answer. */
  readonly status?: number | undefined
  /** How long the upstream asked us to wait, in milliseconds. */
  readonly retryAfterMs?: number | undefined
  readonly cause?: unknown
}

/** Why one endpoint did not give the content. The message is one sentence that names the cure. */
export class UpstreamError extends Error {
  override readonly name = 'UpstreamError'
  readonly kind: FailureKind
  readonly reason: FailureReason
  readonly endpoint: string
  readonly status: number | undefined
  readonly retryAfterMs: number | undefined

  constructor(reason: FailureReason, message: string, details: FailureDetails) {
    super(oneLine(message), details.cause === undefined ? undefined : { cause: details.cause })
    this.reason = reason
    this.kind = KIND_OF[reason]
    this.endpoint = details.endpoint
    this.status = details.status
    this.retryAfterMs = details.retryAfterMs
  }
}

/**
 * A rate limit that ends within this many milliseconds is worth waiting for: it is the least final
 * failure.
 */
export const SHORT_LIMIT_MS = 10_000

const MAX_MESSAGE = 700

/** Removes control characters: messages quote what upstreams sent, and are shown in terminals. */
function oneLine(message: string): string {
  const line = message.slice(0, 2 * MAX_MESSAGE).replaceAll(/[\p{Cc}\p{Cf}]+/gu, ' ')
  return line.length > MAX_MESSAGE ? `${line.slice(0, MAX_MESSAGE)}…` : line
}

/**
 * Returns the failure that decides among those of several endpoints: the least final. Ties go to the
 * first, except that of several rate limits the one that ends soonest decides. Throws a RangeError
 * if there are none.
 */
export function leastFinal(errors: readonly UpstreamError[]): UpstreamError {
  const [first, ...others] = errors
  if (first === undefined) throw new RangeError('leastFinal: no endpoint was asked')
  return others.reduce((best, error) => (isLessFinal(error, best) ? error : best), first)
}

function isLessFinal(error: UpstreamError, best: UpstreamError): boolean {
  if (error.kind !== best.kind) return finality(error) < finality(best)
  if (error.kind !== 'rate-limited') return false
  return (error.retryAfterMs ?? Infinity) < (best.retryAfterMs ?? Infinity)
}

function finality({ kind, retryAfterMs = Infinity }: UpstreamError): number {
  return kind === 'rate-limited' && retryAfterMs <= SHORT_LIMIT_MS ? -1 : KINDS.indexOf(kind)
}
