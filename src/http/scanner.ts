// Reads header text piece by piece with the common rules of RFC 9110 5.6. Never throws, never
// goes back further than one piece; what a piece means is up to the caller.

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

  /** Takes what a sticky pattern matches here: its first group if it has one, else everything. */
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

  /** Takes this one character if it stands here, and the space around it. */
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

  /** A quoted string without quotes and escapes; one that is never closed goes to the end. */
  quoted(): string | undefined {
    return this.take(QUOTED)?.replaceAll(/\\(.)/gs, '$1')
  }
}

/** A header that may come as several lines, as lines; absent: none. */
export function headerLines(header: string | readonly string[] | undefined): readonly string[] {
  if (header === undefined) return []
  return typeof header === 'string' ? [header] : header
}
