// K3s `rewrite` rules: Go's regexp.ReplaceAllString over a repository name. The syntax is re2js's
// (a port of RE2); how a replacement is expanded and when an empty match counts is done here, as
// Go does, because re2js follows Java and JavaScript there. Knows nothing of registries.
import { RE2JS, RE2JSException } from 're2js'
import { isRepositoryName } from '../../oci/reference.ts'

/** Longest pattern and longest replacement accepted, in UTF-16 units. */
export const MAX_RULE_LENGTH = 1024

/** Matching costs at most this many steps per character of a name (at most 255 of them). */
const MAX_PROGRAM_SIZE = 20_000

/** A rule that cannot be used; the message says which one, why, and what would be right. */
export class RewriteError extends Error {
  override readonly name = 'RewriteError'
}

/** One `pattern: replacement` rule, compiled. Throws RewriteError when it cannot be used. */
export class Rewrite {
  readonly pattern: string
  readonly replacement: string
  /** Number of capturing groups; group 0, the whole match, does not count. */
  readonly groupCount: number
  /** Names of the named groups, in the order of their numbers. */
  readonly groupNames: readonly string[]
  readonly #regexp: RE2JS
  readonly #groups: ReadonlyMap<string, number>
  readonly #template: readonly Piece[]

  constructor(pattern: string, replacement: string) {
    refuseTooLong('pattern', pattern)
    refuseTooLong('replacement', replacement)
    this.pattern = pattern
    this.replacement = replacement
    this.#regexp = compile(pattern)
    this.#template = parseReplacement(replacement)
    this.groupCount = this.#regexp.groupCount()
    const named = Object.entries(this.#regexp.namedGroups()).toSorted(([, a], [, b]) => a - b)
    this.#groups = new Map(named)
    this.groupNames = named.map(([name]) => name)
  }

  /**
   * Replaces every match in `name`, unanchored. As in Go, an empty match that touches the end of
   * the match before it is dropped: `(.*)` → `docker/$1` adds the prefix once, not twice.
   */
  apply(name: string): string {
    const matcher = this.#regexp.matcher(name)
    let result = ''
    let copied = 0 // end of the last match: what lies before it is in `result`
    let from = 0
    while (from <= name.length && matcher.find(from)) {
      const start = matcher.start()
      const end = matcher.end()
      result += name.slice(copied, start)
      if (end > copied || start === 0) result += this.#expand((group) => matcher.group(group))
      copied = end
      from = Math.max(end, from + widthAt(name, from))
    }
    return result + name.slice(copied)
  }

  #expand(group: (index: number) => string | null): string {
    let result = ''
    for (const piece of this.#template) {
      if (piece.literal !== undefined) {
        result += piece.literal
        continue
      }
      const index = groupNumber(piece.reference) ?? this.#groups.get(piece.reference)
      if (index !== undefined && index <= this.groupCount) result += group(index) ?? ''
    }
    return result
  }
}

/**
 * Applies the first rule that changes `name` into another valid repository name; later rules are
 * not looked at. A rule whose result is no repository name is passed over, as wharfie does.
 */
export function rewriteName(
  rules: readonly Rewrite[],
  name: string,
): { name: string; rule?: Rewrite } {
  for (const rule of rules) {
    const rewritten = rule.apply(name)
    if (rewritten !== name && isRepositoryName(rewritten)) return { name: rewritten, rule }
  }
  return { name }
}

/**
 * What a replacement refers to: `['1', 'name', '1x']` for `$1-${name}-$1x`, in order, without
 * repeats. A reference of digits (no leading zero) is a group's number, any other a group's name.
 */
export function replacementReferences(replacement: string): string[] {
  const references = new Set<string>()
  for (const piece of parseReplacement(replacement)) {
    if (piece.literal === undefined) references.add(piece.reference)
  }
  return [...references]
}

type Piece = { literal: string } | { literal?: undefined; reference: string }

// Go's template grammar (regexp.Expand): `$name` is as long as possible, so `$1x` is the group
// called "1x"; `$$` is a dollar sign; a `$` that starts nothing stands for itself.
const REFERENCE = /\$(?:\$|(?<bare>[\p{L}\p{Nd}_]+)|\{(?<braced>[\p{L}\p{Nd}_]+)\})/gu

function parseReplacement(replacement: string): Piece[] {
  const pieces: Piece[] = []
  let copied = 0
  for (const match of replacement.matchAll(REFERENCE)) {
    if (match.index > copied) pieces.push({ literal: replacement.slice(copied, match.index) })
    const reference = match.groups?.['bare'] ?? match.groups?.['braced']
    pieces.push(reference === undefined ? { literal: '$' } : { reference })
    copied = match.index + match[0].length
  }
  if (copied < replacement.length) pieces.push({ literal: replacement.slice(copied) })
  return pieces
}

/** The group's number, or undefined when the reference is a name: `01` and `1x` are names. */
function groupNumber(reference: string): number | undefined {
  return /^(?:0|[1-9][0-9]{0,8})$/.test(reference) ? Number(reference) : undefined
}

function widthAt(text: string, at: number): number {
  return (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1
}

function refuseTooLong(what: string, text: string): void {
  if (text.length <= MAX_RULE_LENGTH) return
  throw new RewriteError(
    `rewrite ${what} of ${text.length} characters is too long: at most ${MAX_RULE_LENGTH}`,
  )
}

function compile(pattern: string): RE2JS {
  let regexp: RE2JS
  try {
    regexp = RE2JS.compile(pattern)
  } catch (error) {
    if (!(error instanceof RE2JSException)) throw error
    throw new RewriteError(`rewrite pattern '${pattern}': ${error.message}${hint(pattern)}`, {
      cause: error,
    })
  }
  if (regexp.programSize() <= MAX_PROGRAM_SIZE) return regexp
  throw new RewriteError(`rewrite pattern '${pattern}' is too costly: use smaller repeat counts`)
}

/** Names the two habits of other regexp dialects that Go's does not have. */
function hint(pattern: string): string {
  if (/\(\?<?[=!]/.test(pattern)) return ' (Go regular expressions have no look-around)'
  if (/\\[1-9]/.test(pattern)) return ' (Go regular expressions have no back-references)'
  return ''
}
