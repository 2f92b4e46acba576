// Ids of settings: equal settings have equal ids for as long as this process lives, and nobody can
// test guesses of a password with an id.
import { createHmac, randomBytes } from 'node:crypto'

/** The key of a method that gives what makes an object with private parts equal to another. */
export const IDENTITY = Symbol('identity')

const KEY = randomBytes(32)

/** Returns the id of a tree of plain values. Undefined values count as absent. */
export function settingsId(settings: unknown): string {
  return hiddenId(JSON.stringify(settings, plainly) ?? '')
}

/** Returns the id of a secret string. */
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
