import { readFileSync } from 'node:fs'
import { relative } from 'node:path'
import { parse, stringify } from 'yaml'
import { describe, expect, test } from 'vitest'
import { generated } from '../../helm/generate.ts'
import { readConfigFile } from '../../src/config/config-file.ts'
import { valuesJsonSchema } from '../../helm/values-schema.ts'
import type { JsonSchema } from '../../src/config/json-schema.ts'
import { describedValues } from '../../helm/values-table.ts'

const read = (path: string) => readFileSync(path, 'utf8')
const VALUES = read('helm/chandlery/values.yaml')

test.each([...(await generated())].map(([path, text]) => [relative('.', path), text] as const))(
  '%s is what its sources generate (npm run chart)',
  (path, text) => {
    expect(read(path)).toBe(text)
  },
)

test('chart and image have the version of the package', () => {
  const { version } = JSON.parse(read('package.json')) as { version: string }
  const chart = parse(read('helm/chandlery/Chart.yaml')) as Record<string, unknown>
  expect(chart).toMatchObject({ version, appVersion: version })
})

describe('the examples of the README', () => {
  const blocks = [...read('helm/chandlery/README.md').matchAll(/```yaml\n(.*?)```/gs)]

  test.each(blocks.map(([, text = ''], i) => [i + 1, text] as const))(
    'are values for the chart (number %i)',
    (_, text) => {
      const example = parse(text) as Record<string, unknown>
      const known = Object.keys(parse(VALUES) as object)
      expect(known).toEqual(expect.arrayContaining(Object.keys(example)))
      const { problems } = readConfigFile('config', stringify(example['config'] ?? {}))
      expect(problems).toEqual([])
    },
  )
})

describe('the values of the chart', () => {
  const described = describedValues(VALUES).map(({ path }) => path)
  const ofSchema = leaves(valuesJsonSchema(), parse(VALUES))

  test('each have a comment, from which their line in the README is made', () => {
    expect(described.length).toBeGreaterThan(100)
    expect(ofSchema.filter((path) => !described.includes(path))).toEqual([])
  })

  test('are all known to the schema, and none twice', () => {
    expect(described.filter((path) => !ofSchema.includes(path))).toEqual([])
    expect(new Set(described).size).toBe(described.length)
  })
})

/** Returns the paths of the leaves of the schema. A map that is empty in values.yaml counts as a leaf. */
function leaves(node: JsonSchema, value: unknown, path = ''): string[] {
  const { global: _, enabled: __, ...top } = node.properties ?? {}
  const entries = Object.entries(path === '' ? top : (node.properties ?? {}))
  if (path === 'config' || entries.length === 0) return [path]
  const given = new Map(Object.entries(value ?? {}))
  if (given.size === 0 && path !== '') return [path]
  return entries.flatMap(([key, next]) => {
    return leaves(next, given.get(key), path === '' ? key : `${path}.${key}`)
  })
}
