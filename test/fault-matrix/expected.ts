// What is to come of a cell: the table says it for the only endpoint, and this for all the others.
import { type Cell, columnOf, isByDigest } from './cells.ts'
import { AT_CDN, inTable, SENT_BEFORE_KNOWN } from './table.ts'

/** What the client is told, in the words of the table. */
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

/** What it is told when it asks again; undefined: it depends. */
export function expectedNext(cell: Cell): string | undefined {
  const first = expectedOf(cell)
  if (cell.position === 'first') return 'good'
  // On what is left of a part that was sent.
  if (first === 'cut') return undefined
  // On whether the second is over.
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

/** Nobody is asked, so no fault can be met. */
export function isServedUnasked(cell: Cell): boolean {
  return cell.held && isByDigest(cell)
}

/** What a client is told of it afterwards, when no upstream is there any more. `given`: what it was told before. */
export function expectedAfterwards(cell: Cell, given: readonly string[]): string {
  const isNew = given.includes('good')
  if (isByDigest(cell) && (isNew || cell.held)) return 'good'
  if (isNew) return 'upstream-error, new'
  if (cell.held) return 'upstream-error'
  // That there are none is an answer, too.
  if (given.includes('none')) return 'none'
  // What a client was sent of a blob that broke off is still there.
  return cell.host === 'token renewal' && given[0] === 'cut' ? 'cut' : '503 refused'
}

/** What /readyz?verbose says of the endpoint afterwards; undefined: it depends on how often it was asked. */
export function expectedState(cell: Cell): string | undefined {
  if (cell.position === 'standby' || isServedUnasked(cell)) return 'ok'
  const told = aloneAt({ ...cell, held: false })
  // Where no time was told, it is not left alone for long.
  if (told === '503 rate-limited')
    return cell.fault === '429 without a time' ? undefined : 'limited'
  // A refusal is an answer: it says nothing against the endpoint.
  return /^(403|404) |^none$/.test(told) ? 'ok' : undefined
}
