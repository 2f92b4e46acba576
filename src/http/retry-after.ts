// The Retry-After header (RFC 9110 section 10.2.3): seconds or a date.

/** The longest wait that is honoured: a day. Much longer ones would also overflow timers. */
export const MAX_RETRY_AFTER_MS = 24 * 60 * 60 * 1000

const SECONDS = /^[0-9]+(?:\.[0-9]+)?$/
const IMF_FIXDATE =
  /^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$/
const RFC850_DATE =
  /^[A-Z][a-z]+day, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$/
const ASCTIME_DATE = /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}$/

/** Returns the wait in milliseconds: 0 for a date in the past, at most a day, undefined if absent or malformed. */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  const text = header?.trim() ?? ''
  const delayMs = SECONDS.test(text) ? Math.ceil(Number(text) * 1000) : parseDate(text) - nowMs
  if (Number.isNaN(delayMs)) return undefined
  return Math.min(Math.max(delayMs, 0), MAX_RETRY_AFTER_MS)
}

/** Returns milliseconds since the epoch, or NaN if it is not in one of the three forms of RFC 9110 section 5.6.7. */
function parseDate(text: string): number {
  if (IMF_FIXDATE.test(text) || RFC850_DATE.test(text)) return Date.parse(text)
  return ASCTIME_DATE.test(text) ? Date.parse(`${text} GMT`) : Number.NaN
}
