// What a parser of one configuration value throws.

/** A value that cannot be used; the message says what is wrong and what would be right. */
export class ValueError extends Error {
  override readonly name = 'ValueError'
}

/** `text` in quotes with control characters escaped, cut where it is long: for messages. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
