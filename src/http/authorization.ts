// The Authorization header field (RFC 9110 section 11.6.2): the Basic scheme.

/** A token that says it was issued longer ago than this was not: a clock is wrong. */
const MAX_TOKEN_LENGTH = 48 * 1024

/** RFC 7617, in UTF-8. */
export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}

/** What can stand in a header: RFC 6750's b64token, but visible ASCII is enough for us. */
export function isSendable(value: unknown): value is string {
  return (
    typeof value === 'string' && value.length <= MAX_TOKEN_LENGTH && /^[\x21-\x7e]+$/.test(value)
  )
}
