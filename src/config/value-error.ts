// The error of parsers of configuration values.

/** Thrown for a value that cannot be used. The message says what is wrong and what would be right. */
export class ValueError extends Error {
  override readonly name = 'ValueError'
}

/** Returns `text` for messages: quoted, with control characters escaped, cut after 100 characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
