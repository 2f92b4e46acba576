// Reads JSON from files that may be damaged.

/** Returns what `parse` makes of the JSON in `bytes`, or undefined if `bytes` are not JSON. */
export function parseJson<T>(bytes: Buffer, parse: (value: unknown) => T | undefined) {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    return parse(value)
  } catch {
    return undefined
  }
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Reports whether a value is a non-negative integer, as sizes and times are. */
export function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
