// Every fault of an upstream, at each host and each place among the endpoints, met in everything that
// a client can ask for: what the client is told, what is remembered and what is kept, by the table in
// fault-matrix/table.ts.
import { beforeAll, describe, expect, test } from 'vitest'
import { type Cell, type Group, GROUPS, titleOf } from './fault-matrix/cells.ts'
import {
  expectedAfterwards,
  expectedNext,
  expectedOf,
  expectedState,
  isServedUnasked,
} from './fault-matrix/expected.ts'
import { limited, type Outcome, type Played, playGroup } from './fault-matrix/playing.ts'
import { CANNOT_OCCUR, FAULTS, TABLE } from './fault-matrix/table.ts'
import { troubleOf, TROUBLES } from './fault-matrix/troubles.ts'
import { openBelow } from './support/cache-files.ts'
import { createAuthority } from './support/certificates.ts'

/**
 * No pull takes longer: five limits one after the other at most, each looked at once a second, and
 * what a busy machine adds. With the limits that hold by default it would take a minute and more.
 */
const LONGEST_MS = 12_000
/** Cells at a time: so few that none takes long because of the others. */
const AT_ONCE = 10
const WAITING_AT_ONCE = 80

/** What the client is told to wait, in seconds: more than, and at most. */
const RETRY_AFTER: Readonly<Record<string, readonly [number, number]>> = {
  '429 with seconds': [58, 60],
  '429 with a date': [400, 600],
  '429 without a time': [59, 60],
  '503 with seconds': [58, 60],
}

const outcomes = new Map<Group, Outcome>()

beforeAll(async () => {
  await using authority = await createAuthority()
  const untrusted = await authority.server('127.0.0.1')
  const schedule = {
    quick: limited(AT_ONCE),
    waiting: limited(WAITING_AT_ONCE),
    together: barrier(GROUPS.length),
  }
  await Promise.all(
    GROUPS.map(async (group) => outcomes.set(group, await playGroup(group, untrusted, schedule))),
  )
}, 300_000)

test('the table has every fault once, and says why a cell cannot occur', () => {
  expect(FAULTS.toSorted()).toEqual(Object.keys(TROUBLES).toSorted())
  const impossible = [...TABLE].filter(([, cells]) => [...cells.values()].includes('-'))
  expect(impossible.map(([fault]) => fault)).toEqual(Object.keys(CANNOT_OCCUR))
  for (const cells of TABLE.values()) {
    expect(cells.size).toBe(8)
    for (const column of ['blob', 'large blob']) expect(cells.get(column)).not.toBe('-')
  }
  const words = [...TABLE.values()].flatMap((cells) => [...cells.values()])
  for (const word of words) {
    expect(word).toMatch(/^(\d{3} [a-z-]+|good|cut|none|-|[a-z]+-[a-z]+|denied)$/)
  }
})

describe.each(GROUPS.map((group) => [group.title, group] as const))('%s', (_title, group) => {
  const titled = group.cells.map((cell) => [titleOf(cell), cell] as const)

  test.each(titled)('%s', (_cell, cell) => {
    const played = outcomes.get(group)!.cells.get(cell)!
    expectPulled(cell, played)
    expectMet(cell, played)
  })

  test('the cache holds what was given and nothing unverified, and nothing is left open', async () => {
    const { wrong, cache, errors, others } = outcomes.get(group)!
    expect(wrong).toEqual([])
    await expect.poll(() => openBelow(cache)).toEqual([])
    expect(errors.map((line) => JSON.stringify(line)).join('\n')).toBe('')
    expect(others.filter((state) => state !== undefined && state !== 'ok')).toEqual([])
  })
})

function expectPulled(cell: Cell, { first, next, afterwards, state }: Played): void {
  expect({ first: first.told, next: next.told }).toEqual({
    first: expectedOf(cell),
    next: expectedNext(cell) ?? next.told,
  })
  expect(first.ms).toBeLessThan(LONGEST_MS)
  expect(next.ms).toBeLessThan(LONGEST_MS)
  const bounds = RETRY_AFTER[cell.fault]
  if (bounds !== undefined && cell.position !== 'after 500' && /^50\d /.test(first.told)) {
    expect(first.retryAfter).toBeGreaterThan(bounds[0])
    expect(first.retryAfter).toBeLessThanOrEqual(bounds[1])
  }
  if (troubleOf(cell.fault).ranged !== true) {
    expect(afterwards.told).toBe(expectedAfterwards(cell, [first.told, next.told]))
  }
  expect(state).toBe(expectedState(cell) ?? state)
}

function expectMet(cell: Cell, { met }: Played): void {
  if (cell.position === 'standby' || isServedUnasked(cell)) expect(met ?? 0).toBe(0)
  else expect(met).not.toBe(0)
}

/** Resolves for everybody once so many have called it. */
function barrier(count: number): () => Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  let missing = count
  return async () => {
    missing -= 1
    if (missing === 0) resolve()
    await promise
  }
}
