import { assert, double, property } from 'fast-check'
import { describe, expect, test } from 'vitest'

import { Breaker } from '../../../src/upstream/health/breaker.ts'

const OPTIONS = { threshold: 3, openMs: 1000, maxOpenMs: 8000, trialMs: 5000, random: () => 0.5 }

/** Open since 0, for one second. */
function opened(options: Partial<typeof OPTIONS> = {}): Breaker {
  const breaker = new Breaker({ ...OPTIONS, ...options })
  breaker.failed(0, 3)
  return breaker
}

describe('a breaker', () => {
  test('opens after a number of failures in a row, not after as many with a success in between', () => {
    const breaker = new Breaker(OPTIONS)
    breaker.failed(0)
    breaker.failed(0)
    breaker.succeeded()
    breaker.failed(0)
    breaker.failed(0)
    expect([breaker.state, breaker.readiness(0)]).toEqual(['closed', 'closed'])
    expect(breaker.admit(0)).toMatchObject({ isTrial: false })
    breaker.failed(0)
    expect([breaker.state, breaker.readiness(0)]).toEqual(['open', 'open'])
    expect(breaker.admit(0)).toBeUndefined()
  })

  test('lets exactly one through when its time has come', () => {
    const breaker = opened()
    expect([breaker.readiness(999), breaker.admit(999)]).toEqual(['open', undefined])
    expect(breaker.readiness(1000)).toBe('due')
    expect(breaker.admit(1000)).toMatchObject({ isTrial: true })
    expect([breaker.admit(1000), breaker.admit(1001)]).toEqual([undefined, undefined])
    expect([breaker.state, breaker.readiness(1001)]).toEqual(['half-open', 'open'])
    breaker.succeeded()
    expect([breaker.state, breaker.readiness(1001)]).toEqual(['closed', 'closed'])
  })

  test('is not changed by looking at it', () => {
    const breaker = opened()
    for (let times = 0; times < 3; times++) {
      expect([breaker.state, breaker.readiness(1000)]).toEqual(['open', 'due'])
    }
  })

  test('lets another through when the first gives its admission back without an outcome', () => {
    const breaker = opened()
    const admission = breaker.admit(1000)
    expect(breaker.admit(1001)).toBeUndefined()
    admission?.[Symbol.dispose]()
    expect([breaker.state, breaker.readiness(1001)]).toEqual(['open', 'due'])
    expect(breaker.admit(1001)).toMatchObject({ isTrial: true })
  })

  test('lets another through when the first has been trying for too long, and the end of the first then changes nothing', () => {
    const breaker = opened()
    const first = breaker.admit(1000)
    expect(breaker.admit(5999)).toBeUndefined()
    expect(breaker.admit(6000)).toMatchObject({ isTrial: true })
    first?.[Symbol.dispose]()
    expect([breaker.state, breaker.admit(6001)]).toEqual(['half-open', undefined])
  })

  test('reports when a trial is over, however it ends', async () => {
    const ends: ((breaker: Breaker, admission: Disposable) => void)[] = [
      (_, admission) => admission[Symbol.dispose](),
      (breaker) => breaker.succeeded(),
      (breaker) => breaker.failed(1500),
    ]
    for (const end of ends) {
      const breaker = opened()
      expect(breaker.trial).toBeUndefined()
      const admission = breaker.admit(1000)!
      const { trial } = breaker
      end(breaker, admission)
      await expect(trial).resolves.toBeUndefined()
      expect(breaker.trial).toBeUndefined()
    }
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

  test('is not kept open by requests that were running when it opened', () => {
    const breaker = opened()
    breaker.failed(500, 3)
    expect(breaker.untilMs).toBe(1000)
    breaker.failed(1500)
    expect(breaker.untilMs).toBe(3500)
  })

  test('whose probe was answered counts as closed, lets one through at a time, and closes when that one succeeds', () => {
    const breaker = opened()
    breaker.probed(1000, false)
    expect([breaker.state, breaker.readiness(1000)]).toEqual(['closed', 'on-trial'])
    const admission = breaker.admit(1000)
    expect([breaker.state, breaker.admit(1000)]).toEqual(['half-open', undefined])
    admission?.[Symbol.dispose]()
    expect([breaker.state, breaker.readiness(1000)]).toEqual(['closed', 'on-trial'])
    breaker.admit(1000)
    breaker.succeeded()
    expect(breaker.readiness(1000)).toBe('closed')
  })

  test('whose probe was answered opens for longer at the first failure', () => {
    const breaker = opened()
    breaker.probed(1000, false)
    breaker.failed(1200)
    expect([breaker.state, breaker.untilMs]).toEqual(['open', 3200])
  })

  test('believes an answered probe before its time only where that is proof, and only until a failure refutes it', () => {
    const breaker = opened()
    breaker.probed(500, false)
    expect(breaker.state).toBe('open')
    breaker.probed(500, true)
    expect(breaker.state).toBe('closed')
    breaker.failed(600)
    breaker.probed(2599, true)
    expect(breaker.state).toBe('open')
    breaker.probed(2600, true)
    expect(breaker.state).toBe('closed')
    breaker.succeeded()
    breaker.failed(3000, 3)
    breaker.probed(3001, true)
    expect(breaker.state).toBe('closed')
  })

  test('spreads its times randomly, within a quarter of them', () => {
    assert(
      property(double({ min: 0, max: 0.999, noNaN: true }), (chance) => {
        const { untilMs } = opened({ random: () => chance })
        expect(untilMs).toBeGreaterThanOrEqual(750)
        expect(untilMs).toBeLessThan(1250)
      }),
    )
  })
})
