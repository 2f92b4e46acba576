// CDN-Loop (RFC 8586): every proxy adds its name, so that one that reads its own knows of a loop.

import { headerLines, Scanner } from './scanner.ts'

const UP_TO_COMMA = /[^",]*/y
const QUOTED = /"(?:[^"\\]|\\.)*"/sy
const REST = /.*/sy

/** Whether one of the names in the header is this one, whatever its case and parameters. */
export function hasLooped(header: string | readonly string[] | undefined, id: string): boolean {
  const own = id.toLowerCase()
  return headerLines(header).some((line) => namesIn(line).includes(own))
}

/** How many proxies a request came through, by what they say. */
export function cdnHops(header: string | readonly string[] | undefined): number {
  return headerLines(header)
    .flatMap(namesIn)
    .filter((name) => name !== '').length
}

/** The header to send on: everything that came, and this name. */
export function withCdnLoop(header: string | readonly string[] | undefined, id: string): string {
  return [...headerLines(header).map((line) => line.trim()), id]
    .filter((line) => line !== '')
    .join(', ')
}

/** The names alone: quoted parameter values are passed over, they may hold commas. */
function namesIn(line: string): string[] {
  const members: string[] = []
  const scanner = new Scanner(line)
  do members.push(readMember(scanner))
  while (scanner.takeSign(','))
  // A quote that is never closed quotes nothing: else it would hide the names that were added after it.
  const rest = (scanner.take(REST) ?? '').split(',')
  return [...members, ...rest].map((member) => (member.split(';', 1)[0] ?? '').trim().toLowerCase())
}

function readMember(scanner: Scanner): string {
  let member = scanner.take(UP_TO_COMMA) ?? ''
  while (scanner.take(QUOTED) !== undefined) member += `""${scanner.take(UP_TO_COMMA) ?? ''}`
  return member
}
