// Finds the word for "did you mean …?": the nearest known word by edit distance.

/**
 * Returns the candidate nearest to `word`, if it is at most `maxDistance` edits away. A short word must
 * be nearer: one edit for every three letters.
 */
export function suggest(
  word: string,
  candidates: Iterable<string>,
  maxDistance = 3,
): string | undefined {
  const wanted = fold(word)
  let best: string | undefined
  let bestDistance = Math.min(maxDistance, Math.ceil(wanted.length / 3)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(wanted, fold(candidate))
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance]
  }
  return best
}

// cert_file, cert-file and certFile are the same word in three conventions.
function fold(word: string): string {
  return word.slice(0, 100).toLowerCase().replaceAll(/[-_]/g, '')
}

/** Returns the least number of insertions, deletions, replacements and swaps of neighbours between `a` and `b`. */
export function editDistance(a: string, b: string): number {
  let before: number[] = []
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1]
      let cost = Math.min(row[j - 1]! + 1, previous[j]! + 1, previous[j - 1]! + (same ? 0 : 1))
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (swapped) cost = Math.min(cost, before[j - 2]! + 1)
      row.push(cost)
    }
    ;[before, previous] = [previous, row]
  }
  return previous[b.length]!
}
