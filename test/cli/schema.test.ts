import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { runSchema } from '../../src/cli/schema.ts'

function generated(): string {
  let text = ''
  runSchema({ stdout: { write: (more: string) => (text += more) } })
  return text
}

test('config.schema.json is what the schema generates (npm run schema)', async () => {
  expect(await readFile('config.schema.json', 'utf8')).toBe(generated())
})

interface Node {
  description?: string
  properties?: Record<string, Node>
  additionalProperties?: Node | boolean
  items?: Node
  anyOf?: Node[]
}

function undescribed(node: Node, path: string): string[] {
  const { properties = {}, additionalProperties, items, anyOf = [] } = node
  return [
    ...Object.entries(properties).flatMap(([key, next]) => [
      ...(next.description === undefined ? [`${path}.${key}`] : []),
      ...undescribed(next, `${path}.${key}`),
    ]),
    ...(typeof additionalProperties === 'object'
      ? undescribed(additionalProperties, `${path}.*`)
      : []),
    ...(items ? undescribed(items, `${path}[]`) : []),
    ...anyOf.flatMap((each) => undescribed(each, path)),
  ]
}

test('every key is described, and every map of keys is closed', () => {
  const schema = JSON.parse(generated()) as Node
  expect(undescribed(schema, '')).toEqual([])
  expect(schema.additionalProperties).toBe(false)
})
