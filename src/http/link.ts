// Link headers (RFC 8288 3), as registries page their lists with.

import { headerLines, Scanner } from './scanner.ts'

export interface Link {
  /** As it stands between the angle brackets: often relative to the request's URL. */
  target: string
  /** Names in lower case; the first of several with one name. */
  params: ReadonlyMap<string, string>
}

const MAX_LINE_LENGTH = 16_384
const MAX_LINKS = 64
const MAX_PARAMS = 32

const UP_TO_TARGET = /[^<]*/y
const TARGET = /<([^>]*)>/y
const UNQUOTED = /[^ \t,;"]+/y

/** All links of a header in order. Never throws; what is no link is passed over. */
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

/** The target of the first link whose relation types include `next`. */
export function nextLink(header: string | readonly string[] | undefined): string | undefined {
  return parseLinks(header).find(isNext)?.target
}

function isNext({ params }: Link): boolean {
  const relations = (params.get('rel') ?? '').toLowerCase().split(/[ \t]+/)
  return relations.includes('next')
}

/** A Link header to the next page; what could end the target early or the header is percent-encoded. */
export function formatNextLink(target: string): string {
  return `<${target.toWellFormed().replaceAll(/[^\x21-\x7e]+|[<>"\\^`{|}]/g, encodeURIComponent)}>; rel="next"`
}
