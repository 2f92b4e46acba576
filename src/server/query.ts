// Reads raw query strings, without the question mark. An upstream's own parameters (cursors) must survive
// unchanged, so nothing is re-encoded here.
import { OciError } from '../oci/errors.ts'

/** Returns the first value of a parameter, decoded, or undefined if it is absent or empty. */
export function queryValue(query: string, name: string): string | undefined {
  if (query === '') return undefined
  return new URLSearchParams(query).get(name) || undefined
}

/** Removes all parameters with the name and leaves the rest unchanged. */
export function withoutParameter(query: string, name: string): string {
  return query
    .split('&')
    .filter((pair) => pair !== '' && nameOf(pair) !== name)
    .join('&')
}

/** Returns the page size `n`, or undefined if absent. Throws PAGINATION_NUMBER_INVALID if it is not a number. */
export function pageSize(query: string): number | undefined {
  const text = queryValue(query, 'n')
  if (text === undefined) return undefined
  if (!/^\d{1,15}$/.test(text)) {
    throw new OciError('PAGINATION_NUMBER_INVALID', 'n must be a whole number, 0 or more')
  }
  return Number(text)
}

function nameOf(pair: string): string | undefined {
  return new URLSearchParams(pair).keys().next().value
}
