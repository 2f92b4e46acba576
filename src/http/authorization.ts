// Values of the Authorization header (RFC 9110 section 11.6.2).

/** In characters. A longer token would not fit into the headers that servers accept. */
const MAX_TOKEN_LENGTH = 48 * 1024

/** Returns the value of the Basic scheme (RFC 7617), in UTF-8. */
export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}

/** Reports whether a token can be sent in a header: visible ASCII, which is more than RFC 6750's b64token. */
export function isSendable(value: unknown): value is string {
  return (
    typeof value === 'string' && value.length <= MAX_TOKEN_LENGTH && /^[\x21-\x7e]+$/.test(value)
  )
}
