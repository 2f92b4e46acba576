// Words for a key that does not exist: the nearest one that does, here or elsewhere.
import { configJsonSchema, type JsonSchema } from './json-schema.ts'
import { formatPath, type KeyPath } from './problem.ts'
import { suggest } from './suggest.ts'

let schema: JsonSchema | undefined

/** Why `key` cannot stand in the map at `path`, and what may have been meant. */
export function unknownKeyMessage(path: KeyPath, key: string): string {
  const root = (schema ??= configJsonSchema())
  const keys = nodesAt(root, path).flatMap(({ properties = {} }) => Object.keys(properties))
  const near = suggest(key, keys)
  if (near !== undefined) return `unknown key; did you mean ${near}?`
  const elsewhere = placesOf(root, key).filter((place) => isNear(place, path))
  if (elsewhere.length > 0) return `unknown key here; did you mean ${elsewhere.join(' or ')}?`
  return `unknown key; known here: ${keys.toSorted().join(', ')}`
}

/** The key as messages have it: where a colon or the blank after it is missing, the value, maybe a secret, is in it. */
export function shownKey(key: string): string {
  return key.replace(/[\s:=].*$/s, '…')
}

/** Who is that deep in one section hardly means another. */
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

/** Where else in the file a key of this very name exists. */
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
