import { assert, oneof, property, string, stringMatching } from 'fast-check'
import { describe, expect, test } from 'vitest'

import { ANONYMOUS, type Credential } from '../../../src/upstream/credentials/credentials.ts'
import { parseRateLimit } from '../../../src/upstream/health/rate-limit.ts'
import { RateLimits } from '../../../src/upstream/health/quotas.ts'

const NOW = 1_700_000_000_000

describe('the limit in the headers', () => {
  test.each([
    [
      'Docker Hub',
      { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '76;w=21600' },
      100,
      76,
      21_600,
    ],
    [
      'GitLab',
      {
        'ratelimit-limit': '2000',
        'ratelimit-remaining': '1999',
        'ratelimit-reset': String(NOW / 1000 + 42),
      },
      2000,
      1999,
      42,
    ],
    [
      'the draft',
      {
        'ratelimit-limit': '10, 10;w=1, 50;w=60',
        'ratelimit-remaining': '9',
        'ratelimit-reset': '50',
      },
      10,
      9,
      50,
    ],
    ['GitHub', { 'x-ratelimit-limit': '60', 'x-ratelimit-remaining': '0' }, 60, 0, 60],
    ['more left than granted', { 'ratelimit-limit': '5', 'ratelimit-remaining': '9' }, 5, 5, 60],
    [
      'a window beyond reason',
      { 'ratelimit-limit': '5;w=999999999', 'ratelimit-remaining': '1' },
      5,
      1,
      604_800,
    ],
  ])('of %s is read', (_who, headers, limit, remaining, seconds) => {
    const untilMs = NOW + seconds * 1000
    expect(parseRateLimit(headers, NOW)).toEqual({ limit, remaining, untilMs })
  })

  test('says by what we are counted, where that is readable', () => {
    const headers = { 'ratelimit-limit': '9', 'ratelimit-remaining': '1' }
    const read = (source: string) =>
      parseRateLimit({ ...headers, 'docker-ratelimit-source': source }, NOW)?.source
    expect(read('2001:db8::7')).toBe('2001:db8::7')
    expect(read('17a5d6b0-1c1b-4b8e-a3cc-2f4ab6c1d111')).toMatch(/^17a5d6b0/)
    for (const source of ['', 'a b', '\u001b[2J', 'x'.repeat(65)])
      expect(read(source)).toBeUndefined()
  })

  test.each([
    {},
    { 'ratelimit-limit': '100' },
    { 'ratelimit-limit': '0', 'ratelimit-remaining': '0' },
    { 'ratelimit-limit': 'many', 'ratelimit-remaining': '1' },
    { 'ratelimit-limit': '-1', 'ratelimit-remaining': '1' },
  ])('is not read from %j', (headers) => {
    expect(parseRateLimit(headers, NOW)).toBeUndefined()
  })

  test('is a valid one or none, whatever the headers are', () => {
    const text = oneof(string(), stringMatching(/^\d{0,14}(;w=\d{0,12})?(,.*)?$/))
    assert(
      property(text, text, text, (limit, remaining, reset) => {
        const headers = {
          'ratelimit-limit': limit,
          'ratelimit-remaining': remaining,
          'ratelimit-reset': reset,
        }
        const read = parseRateLimit(headers, NOW)
        if (read === undefined) return
        expect(read.limit).toBeGreaterThan(0)
        expect(read.remaining).toBeLessThanOrEqual(read.limit)
        expect(read.untilMs).toBeGreaterThanOrEqual(NOW)
      }),
    )
  })
})

function limits() {
  const clock = { now: NOW }
  return { clock, known: new RateLimits(() => clock.now) }
}

describe('the remaining quota', () => {
  const hub = { key: 'https://hub.test/v2', host: 'hub.test' }
  const bot: Credential = { kind: 'basic', username: 'bot', password: 'secret' }

  test('is the one of the credential with most left, and is forgotten when its window ends', () => {
    const { clock, known } = limits()
    expect(known.budget('hub.test')).toBeUndefined()
    known.learn(hub, ANONYMOUS, { limit: 100, remaining: 9, untilMs: NOW + 60_000 })
    expect(known.budget('hub.test')).toEqual({ limit: 100, remaining: 9, low: true })
    known.learn(hub, bot, { limit: 200, remaining: 150, untilMs: NOW + 1000 })
    expect(known.budget('hub.test')).toEqual({ limit: 200, remaining: 150, low: false })
    expect(known.budget('other.test')).toBeUndefined()
    clock.now += 1000
    expect(known.budget('hub.test')).toMatchObject({ remaining: 9 })
    expect(known.remaining('hub.test', bot)).toBe(Infinity)
  })

  test('is reported by endpoint and by a name for the credential that reveals nothing', () => {
    const { known } = limits()
    known.learn(hub, ANONYMOUS, { limit: 100, remaining: 9, untilMs: NOW + 1 })
    known.learn(hub, bot, { limit: 200, remaining: 150, untilMs: NOW + 1 })
    known.learn(
      hub,
      { kind: 'identity', token: 'secret' },
      { limit: 1, remaining: 1, untilMs: NOW + 1 },
    )
    const report = [...known.report()]
    const credentials = report.map(({ credential }) => credential)
    expect(credentials.toSorted()).toEqual(['anonymous', 'identity', 'user-9d74932b'].toSorted())
    expect(JSON.stringify(report)).not.toMatch(/secret|bot/)
  })

  test('is none after a refusal, for its lane and credential, until its time is over', () => {
    const { clock, known } = limits()
    known.refused(hub, bot, 'metadata', 30_000)
    expect(known.waitMs(hub, bot, 'metadata')).toBe(30_000)
    expect(known.waitMs(hub, bot, 'content')).toBe(0)
    expect(known.waitMs(hub, ANONYMOUS, 'metadata')).toBe(0)
    expect([known.isLimited('hub.test'), known.remaining('hub.test', bot)]).toEqual([true, -1])
    clock.now += 30_000
    expect([known.isLimited('hub.test'), known.remaining('hub.test', bot)]).toEqual([
      false,
      Infinity,
    ])
  })

  test('is none for longer after each refusal without a time, and for an hour after one for a year', () => {
    const { clock, known } = limits()
    const waits = Array.from({ length: 8 }, () => {
      known.refused(hub, bot, 'metadata', undefined)
      const wait = known.waitMs(hub, bot, 'metadata')
      clock.now += wait
      return wait / 1000
    })
    expect(waits).toEqual([5, 10, 20, 40, 80, 120, 120, 120])
    known.granted(hub, bot)
    known.refused(hub, bot, 'metadata', undefined)
    expect(known.waitMs(hub, bot, 'metadata')).toBe(5000)
    known.refused(hub, bot, 'metadata', 365 * 86_400_000)
    expect(known.waitMs(hub, bot, 'metadata')).toBe(3_600_000)
  })
})
