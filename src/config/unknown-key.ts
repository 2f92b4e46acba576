// The message for a key that does not exist: it suggests the nearest key that does, here or elsewhere.
import { configJsonSchema, type JsonSchema } from './json-schema.ts'
import { formatPath, type KeyPath } from './problem.ts'
import { suggest } from './suggest.ts'

let schema: JsonSchema | undefined

/** Returns the message for an unknown `key` in the map at `path`, with the key that may be meant. */
export function unknownKeyMessage(path: KeyPath, key: string): string {
  const root = (schema ??= configJsonSchema())
  const keys = nodesAt(root, path).flatMap(({ properties = {} }) => Object.keys(properties))
  const near = suggest(key, keys)
  if (near !== undefined) return `unknown key; did you mean ${near}?`
  const elsewhere = placesOf(root, key).filter((place) => isNear(place, path))
  if (elsewhere.length > 0) return `unknown key here; did you mean ${elsewhere.join(' or ')}?`
  return `unknown key; known here: ${keys.toSorted().join(', ')}`
}

/**
 * Returns the key as messages show it. If a colon or the space after it is missing, YAML takes the
 * value, which may be a secret, for part of the key; that part is cut off.
 */
export function shownKey(key: string): string {
  return key.replace(/[\s:=].*$/s, '…')
}

/** Reports whether a key at `place` may be meant: from deep inside a section, only one of the same. */
function isNear(place: string, path: KeyPath): boolean {
  return path.length < 2 || place.startsWith(`${String(path[0])}.`)
}

function nodesAt(root: JsonSchema, path: KeyPath): JsonSchema[] {
  let nodes = alternatives(root)
  for (const part of path) {
    nodes = nodes.flatMap((node) => {
      const next = typeof part === 'number' ? node.items : stepInto(node, part)
      return next ? alternatives(next) : []
    })
  }
  return nodes
}

function stepInto({ properties = {}, additionalProperties }: JsonSchema, key: string) {
  if (Object.hasOwn(properties, key)) return properties[key]
  return additionalProperties || undefined
}

function alternatives(node: JsonSchema): JsonSchema[] {
  return node.anyOf ? node.anyOf.flatMap(alternatives) : [node]
}

/** Returns the paths of all keys with exactly this name. */
function placesOf(node: JsonSchema, key: string, path: KeyPath = []): string[] {
  return alternatives(node).flatMap(({ properties = {}, additionalProperties, items }) => [
    ...Object.entries(properties).flatMap(([name, next]) => [
      ...(name === key ? [formatPath([...path, name])] : []),
      ...placesOf(next, key, [...path, name]),
    ]),
    ...(additionalProperties ? placesOf(additionalProperties, key, [...path, '<host>']) : []),
    ...(items ? placesOf(items, key, [...path, 0]) : []),
  ])
}
