// The WWW-Authenticate header (RFC 9110 section 11.6.1): several challenges in one line or in several,
// with commas in quoted values. Malformed parts are skipped.

import { headerLines, Scanner } from './scanner.ts'

export interface Challenge {
  /** In lower case. */
  readonly scheme: string
  /** Names in lower case, values without quotes. Of equal names the first counts. */
  readonly params: ReadonlyMap<string, string>
  readonly token68?: string
}

/** Longer lines are ignored as a whole: cutting one could turn its realm into another. */
const MAX_LINE_LENGTH = 16_384
const MAX_CHALLENGES = 32
const MAX_PARAMS = 32

const SPACE = /[ \t]+/y
const SEPARATORS = /[ \t,]+/y
const TOKEN68 = /([A-Za-z0-9\-._~+/]+=*)[ \t]*(?=,|$)/y
const UNQUOTED = /[^ \t,"]+/y
const JUNK = /[^ \t,]+/y

interface Draft {
  scheme: string
  params: Map<string, string>
  token68?: string
}

/** Returns the challenges of a header in order: at most 32, with 32 parameters each. Never throws. */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const found: Draft[] = []
  for (const line of headerLines(header)) {
    if (line.length <= MAX_LINE_LENGTH) readLine(new Scanner(line), found)
  }
  return found
}

function readLine(scanner: Scanner, found: Draft[]): void {
  scanner.take(SEPARATORS)
  while (!scanner.done) {
    const word = scanner.token()
    if (word === undefined) skipJunk(scanner)
    else if (scanner.takeSign('=')) readParam(scanner, word, found.at(-1))
    else if (found.length === MAX_CHALLENGES) return
    else found.push(readScheme(scanner, word))
    scanner.take(SEPARATORS)
  }
}

/** A word that is not followed by `=` starts a challenge. A token68 may follow it directly. */
function readScheme(scanner: Scanner, word: string): Draft {
  const draft: Draft = { scheme: word.toLowerCase(), params: new Map() }
  const token68 = scanner.take(SPACE) === undefined ? undefined : scanner.take(TOKEN68)
  if (token68 !== undefined) draft.token68 = token68
  return draft
}

function readParam(scanner: Scanner, name: string, draft: Draft | undefined): void {
  // Registries send URLs and scopes without quotes, so more than a token is accepted.
  const value = scanner.quoted() ?? scanner.take(UNQUOTED) ?? ''
  const key = name.toLowerCase()
  if (draft === undefined || draft.params.has(key) || draft.params.size >= MAX_PARAMS) return
  draft.params.set(key, value)
}

function skipJunk(scanner: Scanner): void {
  if (scanner.quoted() === undefined) scanner.take(JUNK)
}
