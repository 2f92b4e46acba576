// Figures as tables show them.

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN
}

/** Three digits that count. */
export function rounded(value: number): number {
  return Number(value.toPrecision(3))
}
