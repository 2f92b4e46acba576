import { assert, double, property } from 'fast-check'
import { describe, expect, test } from 'vitest'

import { Breaker } from '../../src/upstream/breaker.ts'

const OPTIONS = { threshold: 3, openMs: 1000, maxOpenMs: 8000, probeMs: 5000, random: () => 0.5 }

/** Open since 0, for one second. */
function opened(options: Partial<typeof OPTIONS> = {}): Breaker {
  const breaker = new Breaker({ ...OPTIONS, ...options })
  breaker.failed(0, 3)
  return breaker
}

describe('a breaker', () => {
  test('opens on so many failures in a row, not on as many with a success between', () => {
    const breaker = new Breaker(OPTIONS)
    breaker.failed(0)
    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(0)
    breaker.failed(0)
    expect([breaker.state, breaker.admit(0)]).toEqual(['closed', 'ask'])
    breaker.failed(0)
    expect([breaker.state, breaker.admit(0)]).toEqual(['open', 'refuse'])
  })

  test('lets exactly one through when its time has come', () => {
    const breaker = opened()
    expect(breaker.admit(999)).toBe('refuse')
    expect([breaker.admit(1000), breaker.admit(1000), breaker.admit(1001)]).toEqual([
      'probe',
      'refuse',
      'refuse',
    ])
    expect(breaker.state).toBe('half-open')
    breaker.succeeded()
    expect([breaker.state, breaker.admit(1001)]).toEqual(['closed', 'ask'])
  })

  test('lets another through when the first is never heard of again, or gave up', () => {
    const breaker = opened()
    breaker.admit(1000)
    expect([breaker.admit(5999), breaker.admit(6000)]).toEqual(['refuse', 'probe'])
    breaker.abandoned(6100)
    expect(breaker.admit(6100)).toBe('probe')
  })

  test('stays open for twice as long each time, up to the bound, and from one on after a success', () => {
    const breaker = new Breaker({ ...OPTIONS, threshold: 1 })
    let now = 0
    const lengths = Array.from({ length: 5 }, () => {
      breaker.failed(now)
      const length = breaker.untilMs - now
      now = breaker.untilMs
      breaker.admit(now)
      return length
    })
    expect(lengths).toEqual([1000, 2000, 4000, 8000, 8000])
    breaker.succeeded()
    breaker.failed(now)
    expect(breaker.untilMs - now).toBe(1000)
  })

  test('is not kept open by what was on its way when it opened', () => {
    const breaker = opened()
    breaker.failed(500, 3)
    expect(breaker.untilMs).toBe(1000)
    breaker.failed(1500)
    expect(breaker.untilMs).toBe(3500)
  })

  test('that was answered lets one through for real, and opens for longer when that fails', () => {
    const breaker = opened()
    expect(breaker.admit(1000)).toBe('probe')
    breaker.answered(1100)
    expect([breaker.state, breaker.admit(1100), breaker.admit(1100)]).toEqual([
      'open',
      'ask',
      'refuse',
    ])
    breaker.failed(1200)
    expect(breaker.untilMs).toBe(3200)
    expect(breaker.admit(3200)).toBe('probe')
  })

  test('spreads the times by chance, within a quarter of them', () => {
    assert(
      property(double({ min: 0, max: 0.999, noNaN: true }), (chance) => {
        const { untilMs } = opened({ random: () => chance })
        expect(untilMs).toBeGreaterThanOrEqual(750)
        expect(untilMs).toBeLessThan(1250)
      }),
    )
  })
})
