// The Link header (RFC 8288 section 3), with which registries page their lists.

import { headerLines, Scanner } from './scanner.ts'

export interface Link {
  /** The text between the angle brackets, often relative to the URL of the request. */
  target: string
  /** Names in lower case. Of equal names the first counts. */
  params: ReadonlyMap<string, string>
}

const MAX_LINE_LENGTH = 16_384
const MAX_LINKS = 64
const MAX_PARAMS = 32

const UP_TO_TARGET = /[^<]*/y
const TARGET = /<([^>]*)>/y
const UNQUOTED = /[^ \t,;"]+/y

/** Returns the links of a header in order, skipping whatever is not a link. Never throws. */
export function parseLinks(header: string | readonly string[] | undefined): Link[] {
  const links: Link[] = []
  for (const line of headerLines(header)) {
    if (line.length <= MAX_LINE_LENGTH) readLine(new Scanner(line), links)
  }
  return links
}

function readLine(scanner: Scanner, links: Link[]): void {
  while (links.length < MAX_LINKS) {
    scanner.take(UP_TO_TARGET)
    const target = scanner.take(TARGET)
    if (target === undefined) return
    links.push({ target: target.trim(), params: readParams(scanner) })
  }
}

function readParams(scanner: Scanner): Map<string, string> {
  const params = new Map<string, string>()
  while (params.size < MAX_PARAMS && scanner.takeSign(';')) {
    const name = scanner.token()?.toLowerCase()
    if (name === undefined) continue
    const value = scanner.takeSign('=') ? (scanner.quoted() ?? scanner.take(UNQUOTED) ?? '') : ''
    if (!params.has(name)) params.set(name, value)
  }
  return params
}

/** Returns the target of the first link whose relation types include `next`. */
export function nextLink(header: string | readonly string[] | undefined): string | undefined {
  return parseLinks(header).find(isNext)?.target
}

function isNext({ params }: Link): boolean {
  const relations = (params.get('rel') ?? '').toLowerCase().split(/[ \t]+/)
  return relations.includes('next')
}

/** Returns a Link header to the next page. Characters that could end the target or the header are percent-encoded. */
export function formatNextLink(target: string): string {
  return `<${target.toWellFormed().replaceAll(/[^\x21-\x7e]+|[<>"\\^`{|}]/g, encodeURIComponent)}>; rel="next"`
}
