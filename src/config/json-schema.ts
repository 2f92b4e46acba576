// config.schema.json, for editors: the file as written, generated from the schema.
import { z } from 'zod'
import { fileSchema } from './schema.ts'

/** A JSON Schema (2020-12) node, as far as it is walked here. */
export interface JsonSchema {
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly additionalProperties?: JsonSchema | false
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
}

/** The JSON Schema of a configuration file. */
export function configJsonSchema(): JsonSchema {
  const { $schema, ...rest } = z.toJSONSchema(fileSchema, { io: 'input' })
  // zod's type covers every JSON Schema there is; what it generates from ours has this shape.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- see above
  return { $schema, title: 'Chandlery configuration', ...rest } as JsonSchema
}
