// Documents from outside that should be JSON objects.
import { isObject } from './descriptor.ts'

/** The object a text is; undefined: it is something else, or no JSON. */
export function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const json: unknown = JSON.parse(text)
    return isObject(json) ? json : undefined
  } catch {
    return undefined
  }
}

/** The text a member is; undefined: something else. */
export function asText(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}
