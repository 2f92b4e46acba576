// Raw query strings, as they stand after the question mark. Parameters that are an upstream's own
// (cursors) must survive untouched, so nothing here re-encodes what it does not have to.
import { OciError } from '../oci/errors.ts'

/** The first value of a parameter, decoded; an empty one counts as absent. */
export function queryValue(query: string, name: string): string | undefined {
  if (query === '') return undefined
  return new URLSearchParams(query).get(name) || undefined
}

/** The query without every parameter of that name; the rest as it stood. */
export function withoutParameter(query: string, name: string): string {
  return query
    .split('&')
    .filter((pair) => pair !== '' && nameOf(pair) !== name)
    .join('&')
}

/** The page size `n`; undefined when absent. Throws PAGINATION_NUMBER_INVALID for what is no number. */
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
