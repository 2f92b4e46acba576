// Tells settings apart without keeping them: equal ones have equal ids for as long as this process
// lives, and nobody can test guesses of a password with an id.
import { createHmac, randomBytes } from 'node:crypto'

/** The key of a method that gives what makes an object with private parts equal to another. */
export const IDENTITY = Symbol('identity')

const KEY = randomBytes(32)

/** The id of any tree of plain values; what is undefined counts as absent. */
export function settingsId(settings: unknown): string {
  return hiddenId(JSON.stringify(settings, plainly) ?? '')
}

/** The id of a text that must not be seen. */
export function hiddenId(text: string): string {
  return createHmac('sha256', KEY).update(text).digest('base64url')
}

// toJSON has run by then, and it leaves secrets out: the value itself is in `this`.
function plainly(this: unknown, key: string, value: unknown): unknown {
  const raw: unknown = this instanceof Object ? Reflect.get(this, key) : value
  return hasIdentity(raw) ? raw[IDENTITY]() : value
}

function hasIdentity(value: unknown): value is { [IDENTITY](): string } {
  return value instanceof Object && IDENTITY in value
}
