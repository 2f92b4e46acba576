// Reads the text of a header piece by piece by the common rules of RFC 9110 section 5.6. Never throws.

const TOKEN = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y
const SPACE = /[ \t]*/y
const QUOTED = /"((?:[^"\\]|\\.)*)(?:"|\\?$)/sy

export class Scanner {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  get done(): boolean {
    return this.#at >= this.#text.length
  }

  /** Consumes what a sticky pattern matches here. Returns its first group if it has one, else the match. */
  take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const match = pattern.exec(this.#text)
    if (match === null) return undefined
    this.#at = pattern.lastIndex
    return match[1] ?? match[0]
  }

  skipSpace(): void {
    this.take(SPACE)
  }

  /** Consumes this character and the space around it, if it comes next. */
  takeSign(sign: string): boolean {
    const from = this.#at
    this.skipSpace()
    if (this.#text[this.#at] !== sign) {
      this.#at = from
      return false
    }
    this.#at += 1
    this.skipSpace()
    return true
  }

  token(): string | undefined {
    return this.take(TOKEN)
  }

  /** Consumes a quoted string and returns it without quotes and escapes. An unclosed one runs to the end. */
  quoted(): string | undefined {
    return this.take(QUOTED)?.replaceAll(/\\(.)/gs, '$1')
  }
}

/** Returns the lines of a header; none if it is absent. */
export function headerLines(header: string | readonly string[] | undefined): readonly string[] {
  if (header === undefined) return []
  return typeof header === 'string' ? [header] : header
}
