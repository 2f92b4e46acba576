// What registries said about their limits, looked up by host.
import { describe, expect, test } from 'vitest'

import type { Credential } from '../../../src/upstream/credentials/credentials.ts'
import { RateLimits } from '../../../src/upstream/health/quotas.ts'

const ANYBODY: Credential = { kind: 'anonymous' }
const as = (username: string): Credential => ({ kind: 'basic', username, password: 'p' })
const at = (host: string) => ({ key: `https://${host}/v2`, host })

/** As many credentials as are remembered, each at a host of its own. */
function full(now?: () => number): RateLimits {
  const limits = new RateLimits(now)
  for (let i = 0; i < 1024; i++) limits.granted(at(`${i}.test`), ANYBODY)
  return limits
}

/** Milliseconds that so many looks at one host take. */
function timeOf(limits: RateLimits): number {
  const startedAt = performance.now()
  for (let i = 0; i < 20_000; i++) limits.isLimited('0.test')
  return performance.now() - startedAt
}

describe('whether a host is limited', () => {
  test('takes as long to find out among a thousand hosts as for one', () => {
    const alone = new RateLimits()
    alone.granted(at('0.test'), ANYBODY)
    timeOf(alone)
    const [few, many] = [timeOf(alone), timeOf(full())]
    // Looking through all of them takes hundreds of times as long.
    expect(many).toBeLessThan(20 * few + 20)
  })

  test('is known for each host on its own, once every credential there has to wait', () => {
    const limits = new RateLimits(() => 0)
    limits.refused(at('a.test'), as('one'), 'content', 1000)
    expect([limits.isLimited('a.test'), limits.isLimited('b.test')]).toEqual([true, false])
    limits.granted(at('a.test'), as('two'))
    limits.granted(at('b.test'), as('one'))
    expect([limits.isLimited('a.test'), limits.isLimited('b.test')]).toEqual([false, false])
    limits.refused(at('a.test'), as('two'), 'metadata', 1000)
    expect([limits.isLimited('a.test'), limits.isLimited('b.test')]).toEqual([true, false])
  })

  test('is forgotten for the host that was heard of longest ago', () => {
    const limits = new RateLimits(() => 0)
    limits.refused(at('old.test'), ANYBODY, 'content', 1000)
    limits.refused(at('old.test'), as('one'), 'content', 1000)
    for (let i = 0; i < 1022; i++) limits.granted(at(`${i}.test`), ANYBODY)
    expect(limits.isLimited('old.test')).toBe(true)
    limits.granted(at('new.test'), ANYBODY)
    limits.granted(at('newer.test'), ANYBODY)
    expect(limits.isLimited('old.test')).toBe(false)
    expect(limits.remaining('old.test', as('one'))).toBe(Infinity)
  })
})

test('the budget of a host is that of the credential with most left there, among any number of hosts', () => {
  const limits = full(() => 0)
  const limit = { limit: 100, untilMs: 1000 }
  limits.learn(at('7.test'), as('one'), { ...limit, remaining: 5 })
  limits.learn(at('7.test'), as('two'), { ...limit, remaining: 50 })
  limits.learn(at('8.test'), as('one'), { ...limit, remaining: 99 })
  expect(limits.budget('7.test')).toEqual({ limit: 100, remaining: 50, low: false })
  expect(limits.report()).toHaveLength(3)
})
