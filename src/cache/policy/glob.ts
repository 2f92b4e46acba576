// Patterns of freshness rules: `*` is any run of characters within a component, `**` any run at all,
// everything else is itself. Not a regular expression on purpose: names and tags come from clients,
// and this takes time proportional to pattern times text whatever they are.

const WITHIN = Symbol('*')
const ACROSS = Symbol('**')
type Token = string | typeof WITHIN | typeof ACROSS

export class Glob {
  readonly pattern: string
  readonly #tokens: readonly Token[]

  constructor(pattern: string) {
    this.pattern = pattern
    this.#tokens = tokensOf(pattern)
  }

  /** Whether the pattern matches the text from end to end. */
  matches(text: string): boolean {
    const tokens = this.#tokens
    // alive[i]: what is before token i has matched what of the text was read.
    let alive = openRuns(tokens, [0])
    for (let at = 0; at < text.length; at++) {
      const character = text.charAt(at)
      const next: number[] = []
      for (const i of alive) {
        const token = tokens[i]
        if (token === character) next.push(i + 1)
        else if (token === ACROSS || (token === WITHIN && character !== '/')) next.push(i)
      }
      if (next.length === 0) return false
      alive = openRuns(tokens, next)
    }
    return alive.has(tokens.length)
  }
}

/** A run may be empty, so standing before one is standing after it as well. */
function openRuns(tokens: readonly Token[], positions: readonly number[]): Set<number> {
  const alive = new Set<number>()
  for (const position of positions) {
    let at = position
    alive.add(at)
    while (tokens[at] === WITHIN || tokens[at] === ACROSS) alive.add(++at)
  }
  return alive
}

function tokensOf(pattern: string): Token[] {
  return pattern.split(/(\*{2,}|\*)/).flatMap((part): Token[] => {
    if (part === '*') return [WITHIN]
    return part.startsWith('**') ? [ACROSS] : part.split('')
  })
}
