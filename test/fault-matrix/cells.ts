// The dimensions of the fault matrix, and which of their combinations are its cells.
import { FAULTS, inTable } from './table.ts'
import { troubleOf } from './troubles.ts'

export const CONTENTS = [
  'manifest by tag',
  'manifest by digest',
  'blob',
  'large blob',
  'referrers',
] as const

export type Content = (typeof CONTENTS)[number]

/**
 * The host that has the fault: the endpoint; its token server; its token server when a second token
 * is needed in the middle of a blob; the host that the endpoint redirects blobs to.
 */
export type Host = 'endpoint' | 'token server' | 'token renewal' | 'CDN'

/**
 * Where the endpoint with the fault, or whose token server or CDN has it, stands among the
 * endpoints of the registry.
 */
export type Position = keyof typeof POSITIONS

const POSITIONS = {
  alone: 'at the only endpoint',
  first: 'before an endpoint that works',
  'after 404': 'after an endpoint that has nothing',
  'after 500': 'after an endpoint that fails too',
  standby: 'after an endpoint that has everything',
} as const

export interface Cell {
  readonly content: Content
  readonly fault: string
  readonly host: Host
  readonly position: Position
  /** The content was fetched before, when nothing was wrong. */
  readonly held: boolean
  /** Unique: names and addresses of the cell are made of it. */
  readonly number: number
}

export type Combination = Omit<Cell, 'number'>

/** The cells that run against one server. */
export interface Group {
  readonly title: string
  readonly cells: readonly Cell[]
}

/** Reports whether held content is served without asking an upstream. */
export function isByDigest({ content }: Pick<Cell, 'content'>): boolean {
  return content !== 'manifest by tag' && content !== 'referrers'
}

export function isBlob({ content }: Pick<Cell, 'content'>): boolean {
  return content === 'blob' || content === 'large blob'
}

/** Returns the column of the table for a cell. */
export function columnOf({ content, host, held }: Combination): string {
  if (host === 'token server' || host === 'token renewal') return held ? 'held: token' : 'token'
  if (held) return content === 'referrers' ? 'held: referrers' : 'held: tag'
  return content.startsWith('manifest') ? 'manifest' : content
}

export function titleOf({ content, fault, position, held }: Cell): string {
  return `${content}, ${held ? 'held' : 'not held'}: ${fault} ${POSITIONS[position]}`
}

/** Stands for all faults where none can be met, because the endpoint is not asked. */
const ANY_FAULT = 'reset'

/**
 * Left out, because they would add nothing:
 * - what is held by digest, and a standby, with more than one fault: the endpoint is not asked;
 * - a token server with every kind of content: the token comes before the content, so one document
 *   and one blob stand for all; and what is held with another endpoint: any failure leads to it;
 * - a token that is renewed where another endpoint has the blob: the rest comes from there;
 * - a token server that nobody can talk to, in mid-blob: there would have been no first token;
 * - a CDN with anything but blobs: registries redirect nothing else;
 * - a second endpoint after one that has nothing or fails, with manifests by digest, with large
 *   blobs, and with what is held: the failures decide what becomes of it, not what was asked for;
 *   and after one that fails, with referrers and at token servers and CDNs, for the same reason.
 */
export const GROUPS: readonly Group[] = numbered([
  ...CONTENTS.map((content): [string, Combination[]] => {
    const positions = ['alone', 'first', 'after 404', 'after 500', 'standby'] as const
    return [content, combinations('endpoint', [content], positions)]
  }),
  [
    'the token server',
    combinations('token server', ['manifest by tag', 'blob'], ['alone', 'first', 'after 404']),
  ],
  [
    'the token server, in mid-blob',
    combinations('token renewal', ['blob', 'large blob'], ['alone']),
  ],
  ['the CDN', combinations('CDN', ['blob', 'large blob'], ['alone', 'first', 'after 404'])],
])

function combinations(
  host: Host,
  contents: readonly Content[],
  positions: readonly Position[],
): Combination[] {
  return contents.flatMap((content) => {
    return FAULTS.flatMap((fault) => {
      return positions.flatMap((position) => {
        const both = [false, true].map((held) => ({ content, fault, host, position, held }))
        return both.filter((cell) => occurs(cell) && adds(cell))
      })
    })
  })
}

/** Reports whether the host can have the fault. */
function occurs(cell: Combination): boolean {
  const { host, urls, tokens } = troubleOf(cell.fault)
  if (inTable(cell.fault, columnOf({ ...cell, held: false })) === undefined) return false
  if (urls !== undefined) return cell.host === 'CDN'
  if (host !== undefined && cell.host === 'token renewal') return false
  return tokens === undefined || cell.host === 'endpoint'
}

function adds(cell: Combination): boolean {
  const { content, fault, host, position, held } = cell
  const isOneOf = (...contents: Content[]) => contents.includes(content)
  if (position === 'standby') return fault === ANY_FAULT && !held
  if (position === 'after 500') return isOneOf('manifest by tag', 'blob') && !held
  if (position === 'after 404') return isOneOf('manifest by tag', 'blob', 'referrers') && !held
  if (!held) return true
  if (position === 'first') return host === 'endpoint' && !isByDigest(cell)
  return !isByDigest(cell) || (fault === ANY_FAULT && host === 'endpoint')
}

function numbered(groups: readonly [title: string, cells: readonly Combination[]][]): Group[] {
  let last = 0
  return groups.map(([title, cells]) => {
    return { title, cells: cells.map((cell) => ({ ...cell, number: ++last })) }
  })
}
