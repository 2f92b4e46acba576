// The CDN-Loop header (RFC 8586): every proxy adds its name, so that one that finds its own has found a loop.

import { headerLines, Scanner } from './scanner.ts'

const UP_TO_COMMA = /[^",]*/y
const QUOTED = /"(?:[^"\\]|\\.)*"/sy
const REST = /.*/sy

/** Reports whether the header holds this name, ignoring case and parameters. */
export function hasLooped(header: string | readonly string[] | undefined, id: string): boolean {
  const own = id.toLowerCase()
  return headerLines(header).some((line) => namesIn(line).includes(own))
}

/** Returns how many proxies the header names. */
export function cdnHops(header: string | readonly string[] | undefined): number {
  return headerLines(header)
    .flatMap(namesIn)
    .filter((name) => name !== '').length
}

/** Returns the header with this name added. */
export function withCdnLoop(header: string | readonly string[] | undefined, id: string): string {
  return [...headerLines(header).map((line) => line.trim()), id]
    .filter((line) => line !== '')
    .join(', ')
}

/** Returns the names without their parameters, whose quoted values may hold commas. */
function namesIn(line: string): string[] {
  const members: string[] = []
  const scanner = new Scanner(line)
  do members.push(readMember(scanner))
  while (scanner.takeSign(','))
  // An unclosed quote counts as a plain character: it must not hide the names added after it.
  const rest = (scanner.take(REST) ?? '').split(',')
  return [...members, ...rest].map((member) => (member.split(';', 1)[0] ?? '').trim().toLowerCase())
}

function readMember(scanner: Scanner): string {
  let member = scanner.take(UP_TO_COMMA) ?? ''
  while (scanner.take(QUOTED) !== undefined) member += `""${scanner.take(UP_TO_COMMA) ?? ''}`
  return member
}
