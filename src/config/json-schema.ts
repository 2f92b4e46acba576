// JSON Schemas of what people write, generated from its zod schema: config.schema.json, for editors.
import { z } from 'zod'
import { fileSchema } from './schema.ts'

/** A JSON Schema (2020-12) node, as far as it is walked by us. */
export interface JsonSchema {
  readonly $schema?: string | undefined
  readonly title?: string
  readonly type?: string
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: JsonSchema | false
  readonly items?: JsonSchema
  readonly anyOf?: readonly JsonSchema[]
}

/** The JSON Schema of a configuration file. */
export function configJsonSchema(): JsonSchema {
  const { $schema, ...rest } = jsonSchemaOf(fileSchema)
  return { $schema, title: 'Chandlery configuration', ...rest }
}

/** What may be written for a schema, before its defaults are filled in. */
export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const generated: unknown = z.toJSONSchema(schema, { io: 'input' })
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- zod's type is of every JSON Schema there is; ours become no boolean and no tuple
  return generated as JsonSchema
}
