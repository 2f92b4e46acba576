// `chandlery schema`: prints config.schema.json.
import { configJsonSchema } from '../config/json-schema.ts'
import type { Io } from './io.ts'

/** Prints the JSON Schema of the configuration file. */
export function runSchema(io: Pick<Io, 'stdout'>): 0 {
  io.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`)
  return 0
}
