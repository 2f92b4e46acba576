// npm run chart: writes the generated parts of the chart. values.schema.json comes from
// values-schema.ts and the configuration's schema, the table in the README from values.yaml.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { valuesJsonSchema } from './values-schema.ts'
import { valuesTable } from './values-table.ts'

const CHART = join(import.meta.dirname, 'chandlery')
const [BEGIN, END] = ['<!-- values -->\n', '\n<!-- end of values -->']

/** Returns the content of each generated file, by its path. */
export async function generated(): Promise<ReadonlyMap<string, string>> {
  const schema = valuesJsonSchema()
  const values = await readFile(join(CHART, 'values.yaml'), 'utf8')
  const path = join(CHART, 'README.md')
  const readme = await readFile(path, 'utf8')
  const [before = '', rest = ''] = readme.split(BEGIN)
  const after = rest.slice(rest.indexOf(END))
  return new Map([
    [join(CHART, 'values.schema.json'), `${JSON.stringify(schema, null, 2)}\n`],
    [path, `${before}${BEGIN}${valuesTable(values, schema)}${after}`],
  ])
}

if (import.meta.main) {
  for (const [path, text] of await generated()) await writeFile(path, text)
}
