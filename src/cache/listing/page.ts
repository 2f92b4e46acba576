// Paging with `n` and `last`, as the OCI distribution spec has it for tags. Pure.
import { OciError } from '../../oci/errors.ts'

export interface Page {
  /** The most items on the page; undefined for all. */
  readonly n?: number
  /** The page starts after this item. */
  readonly last?: string
}

/** Reads `n` and `last` of a raw query string. Throws PAGINATION_NUMBER_INVALID. */
export function parsePage(query: string): Page {
  const params = new URLSearchParams(query)
  const n = params.get('n')
  const last = params.get('last')
  if (n !== null && !(/^[0-9]+$/.test(n) && Number.isSafeInteger(Number(n)))) {
    throw new OciError('PAGINATION_NUMBER_INVALID', 'n must be a whole number, 0 or more')
  }
  return { ...(n !== null && { n: Number(n) }), ...(last !== null && last !== '' && { last }) }
}

/** Returns the page of a sorted list, and the raw query string of the page after it. */
export function pageOf(sorted: readonly string[], page: Page): { items: string[]; next?: string } {
  const { n, last } = page
  const rest = last === undefined ? [...sorted] : sorted.filter((item) => item > last)
  if (n === undefined || rest.length <= n) return { items: rest }
  const items = rest.slice(0, n)
  const end = items.at(-1)
  if (end === undefined) return { items }
  return { items, next: new URLSearchParams({ n: String(n), last: end }).toString() }
}
