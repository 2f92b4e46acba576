// JSON Schemas of files that people write, generated from their zod schemas: config.schema.json, for
// editors.
import { z } from 'zod'
import { fileSchema } from './schema.ts'

/** A node of a JSON Schema (2020-12), with the properties that this code reads. */
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

/** Returns the JSON Schema of the configuration file. */
export function configJsonSchema(): JsonSchema {
  const { $schema, ...rest } = jsonSchemaOf(fileSchema)
  return { $schema, title: 'Chandlery configuration', ...rest }
}

/** Returns the JSON Schema of a zod schema's input, before its defaults are filled in. */
export function jsonSchemaOf(schema: z.ZodType): JsonSchema {
  const generated: unknown = z.toJSONSchema(schema, { io: 'input' })
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- zod's type covers every JSON Schema; ours have no boolean schemas and no tuples
  return generated as JsonSchema
}
