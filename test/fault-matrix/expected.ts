// The expected results of cells. The table has those of a single endpoint; this file derives the
// others.
import { type Cell, columnOf, isByDigest } from './cells.ts'
import { AT_CDN, inTable, SENT_BEFORE_KNOWN } from './table.ts'

/** Returns the expected response, in the words of the table. */
export function expectedOf(cell: Cell): string {
  const { content, fault, host, position } = cell
  if (position === 'standby' || isServedUnasked(cell)) return 'good'
  const alone = aloneAt(cell)
  if (position === 'first') {
    const isSent = host !== 'token server' && SENT_BEFORE_KNOWN.includes(`${content}, ${fault}`)
    return isSent ? 'cut' : 'good'
  }
  // After a 404 the table holds: no failure is more final, so the other one decides.
  if (position !== 'after 500' || alone === 'good' || alone === 'cut') return alone
  // No failure is less final than the 500, and of equal ones the first endpoint's decides.
  return '502 server-error'
}

/** Returns the expected response to a second request, or undefined if it depends. */
export function expectedNext(cell: Cell): string | undefined {
  const first = expectedOf(cell)
  if (cell.position === 'first') return 'good'
  // It depends on how much of a partly sent blob is left.
  if (first === 'cut') return undefined
  // It depends on whether the second has ended.
  return cell.held && cell.fault === '429 with a second, once' ? undefined : first
}

function aloneAt(cell: Cell): string {
  const { content, fault, host } = cell
  const told = inTable(fault, columnOf(cell))
  if (told === undefined) throw new Error(`${fault} cannot occur`)
  if (host === 'CDN') return AT_CDN[fault] ?? told
  // The first half of a large blob has been sent.
  if (host === 'token renewal' && content === 'large blob' && told !== 'good') return 'cut'
  return told
}

/** Reports whether no endpoint is asked, so that no fault can be met. */
export function isServedUnasked(cell: Cell): boolean {
  return cell.held && isByDigest(cell)
}

/**
 * Returns the expected response after all upstreams have gone. `given` is the previous response.
 */
export function expectedAfterwards(cell: Cell, given: readonly string[]): string {
  const isNew = given.includes('good')
  if (isByDigest(cell) && (isNew || cell.held)) return 'good'
  if (isNew) return 'upstream-error, new'
  if (cell.held) return 'upstream-error'
  // An empty list is an answer too.
  if (given.includes('none')) return 'none'
  // The first MiB of a blob that broke off is still there, and is sent only once it is verified.
  return '503 refused'
}

/**
 * Returns the endpoint's state in /readyz?verbose afterwards, or undefined if it depends on the
 * number of requests.
 */
export function expectedState(cell: Cell): string | undefined {
  if (cell.position === 'standby' || isServedUnasked(cell)) return 'ok'
  const told = aloneAt({ ...cell, held: false })
  // Without a Retry-After it is asked again soon.
  if (told === '503 rate-limited')
    return cell.fault === '429 without a time' ? undefined : 'limited'
  // A refusal is an answer: it does not count against the endpoint.
  return /^(403|404) |^none$/.test(told) ? 'ok' : undefined
}
