// Faults that end, at each host and place of the fault matrix: pulls soon succeed again, and the
// endpoint is ok and used again, also a standby that nobody needs.
import { beforeAll, describe, expect, test } from 'vitest'
import {
  ENDINGS,
  type Healed,
  HEALING_CELLS,
  type HealingCell,
  playHealing,
} from './fault-matrix/healing.ts'
import { limited } from './fault-matrix/playing.ts'
import { createAuthority } from './support/certificates.ts'

/**
 * The only endpoint is asked whatever it did before, and a later one again once its breaker has been
 * open for 1.25 s at most (README.md, "When an upstream fails"): by then one pull may have been refused.
 */
const MOST_REFUSED = 1
/** Generous, for a busy machine: a cell in which nothing recovers takes 20 s. */
const RECOVERED_MS = 10_000
/** Cells at a time. They wait most of the time. */
const AT_ONCE = 40

let healed: Map<HealingCell, Healed>

beforeAll(async () => {
  await using authority = await createAuthority()
  const untrusted = await authority.server('127.0.0.1')
  healed = await playHealing(HEALING_CELLS, untrusted, limited(AT_ONCE))
}, 300_000)

const POSITIONS = {
  alone: 'the only endpoint is used again',
  first: 'an endpoint is used again before the one that helped out',
  'after 404': 'a fallback is used again although the endpoint before it was asked meanwhile',
  standby: 'a standby is ok before anybody needs it, and then used',
} as const

describe.each(Object.entries(POSITIONS))('%s: %s', (position) => {
  const cells = HEALING_CELLS.filter((cell) => cell.position === position)
  const titled = cells.map(
    (cell) => [`${cell.fault} at ${cell.host}, ${cell.content}`, cell] as const,
  )

  test.each(titled)('%s', (_title, cell) => {
    const { isOver, during, elsewhere, refused, goodAfterMs, okAfterMs, served } = healed.get(cell)!
    const { pauseMs = 0 } = ENDINGS[cell.fault]!
    expect(isOver).toBe(true)
    if (pauseMs === 0) expect(refused).toBeLessThanOrEqual(MOST_REFUSED)
    if (cell.position === 'first') {
      expect(during.filter((told) => told !== 'good')).toEqual([])
      expect(refused).toBe(0)
    }
    expect(elsewhere.filter((told) => told !== 'good')).toEqual([])
    expect(goodAfterMs).toBeLessThan(pauseMs + RECOVERED_MS)
    expect(okAfterMs).toBeLessThan(pauseMs + RECOVERED_MS)
    expect(served).toBeGreaterThan(0)
  })
})
