// Formats figures for tables.

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN
}

/** Formats a number with three significant digits. */
export function rounded(value: number): number {
  return Number(value.toPrecision(3))
}
