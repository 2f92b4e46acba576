// Reading JSON that somebody may have damaged.

/** The value in `bytes`, as `parse` reads it; undefined where that is not JSON or not such a value. */
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

/** A size or a time: a whole number that is not negative. */
export function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}
