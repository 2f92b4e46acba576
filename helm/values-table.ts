// Generates the table of values in the chart's README: the path and default of each value come from
// values.yaml, its meaning from the comment above it that begins with "--", its type from the schema.
import { parse } from 'yaml'
import type { JsonSchema } from '../src/config/json-schema.ts'

interface Described {
  readonly path: string
  readonly meaning: string
}

/** Returns the Markdown table of all described values, in the order of the file. */
export function valuesTable(valuesYaml: string, schema: JsonSchema): string {
  const values: unknown = parse(valuesYaml)
  const rows = describedValues(valuesYaml).map(({ path, meaning }) =>
    row([`\`${path}\``, typeOf(nodeAt(schema, path)), defaultOf(valueAt(values, path)), meaning]),
  )
  return [row(['value', 'type', 'default', 'meaning']), '|---|---|---|---|', ...rows].join('\n')
}

/** Returns the paths that have a comment above them, with the comment. */
export function describedValues(valuesYaml: string): Described[] {
  const found: Described[] = []
  const parents: { indent: number; key: string }[] = []
  let comment: string[] | undefined
  for (const line of valuesYaml.split('\n')) {
    const [, begun, more] = /^ *# (?:-- (.*)|(.*))$/.exec(line) ?? []
    if (begun !== undefined) comment = [begun]
    else if (more !== undefined) comment?.push(more)
    const [, spaces = '', key] = /^( *)(\w+):/.exec(line) ?? []
    if (key === undefined) continue
    while ((parents.at(-1)?.indent ?? -1) >= spaces.length) parents.pop()
    parents.push({ indent: spaces.length, key })
    const path = parents.map((parent) => parent.key).join('.')
    if (comment !== undefined) found.push({ path, meaning: comment.join(' ') })
    comment = undefined
  }
  return found
}

function valueAt(values: unknown, path: string): unknown {
  return path.split('.').reduce((at: unknown, key) => {
    return typeof at === 'object' && at !== null
      ? Object.entries(at).find(([k]) => k === key)?.[1]
      : undefined
  }, values)
}

function nodeAt(schema: JsonSchema, path: string): JsonSchema | undefined {
  return path.split('.').reduce((at: JsonSchema | undefined, key) => at?.properties?.[key], schema)
}

const TYPES: Readonly<Record<string, string>> = {
  string: 'string',
  integer: 'number',
  boolean: 'boolean',
  array: 'list',
  object: 'map',
  null: 'null',
}

function typeOf(node: JsonSchema | undefined): string {
  if (node?.anyOf) {
    const types = new Set(node.anyOf.flatMap((each) => typeOf(each).split(' or ')))
    types.delete('null')
    return [...types].join(' or ')
  }
  return TYPES[node?.type ?? ''] ?? ''
}

function defaultOf(value: unknown): string {
  if (value === '') return 'none'
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
}
