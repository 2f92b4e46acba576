import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  DEFAULT_FRESHNESS,
  freshnessAt,
  FreshnessPolicy,
  mayServeStale,
  ttlSeconds,
} from '../../../src/cache/policy/freshness.ts'

const ALPINE = { registry: 'docker.io', name: 'library/alpine' }
const LATER = 1_000_000

describe('freshnessAt', () => {
  const settings = { ttlMs: 1_000, staleWhileRevalidateMs: 500 }

  it.each([
    [0, 'fresh'],
    [999, 'fresh'],
    [1_000, 'stale-while-revalidate'],
    [1_499, 'stale-while-revalidate'],
    [1_500, 'expired'],
  ])('makes an age of %i ms %s', (age, expected) => {
    expect(freshnessAt(LATER, settings, LATER + age)).toBe(expected)
  })

  it('counts what was checked in the future as expired: the clock went back', () => {
    expect(freshnessAt(LATER, settings, LATER - 1)).toBe('expired')
    expect(freshnessAt(LATER, { ttlMs: Infinity, staleWhileRevalidateMs: 0 }, 0)).toBe('expired')
  })

  it('never finds anything fresh with a ttl of 0', () => {
    expect(freshnessAt(LATER, { ttlMs: 0, staleWhileRevalidateMs: 0 }, LATER)).toBe('expired')
  })

  it('is fresh for at most ttl milliseconds of any clock', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.nat(), fc.nat(), (checkedAt, now, ttlMs, swr) => {
        const found = freshnessAt(checkedAt, { ttlMs, staleWhileRevalidateMs: swr }, now)
        const age = now - checkedAt
        expect(found === 'fresh').toBe(age >= 0 && age < ttlMs)
        expect(found === 'expired').toBe(age < 0 || age >= ttlMs + swr)
      }),
    )
  })
})

describe('mayServeStale', () => {
  const settings = { ttlMs: 1_000, staleIfErrorMs: 500, whenGone: 'serve' as const }

  it('serves through failures within staleIfError after the ttl', () => {
    expect(mayServeStale(LATER, settings, 'upstream-error', LATER + 1_499)).toBe(true)
    expect(mayServeStale(LATER, settings, 'upstream-error', LATER + 1_500)).toBe(false)
    const forever = { ...settings, staleIfErrorMs: 'forever' as const }
    expect(mayServeStale(LATER, forever, 'rate-limited', LATER * 1_000)).toBe(true)
  })

  it('does not serve for ever after the clock went back', () => {
    expect(mayServeStale(LATER, settings, 'upstream-error', LATER - 1_499)).toBe(true)
    expect(mayServeStale(LATER, settings, 'upstream-error', LATER - 1_500)).toBe(false)
  })

  it('asks whenGone alone about what the upstream no longer has', () => {
    expect(mayServeStale(LATER, settings, 'upstream-gone', LATER * 1_000)).toBe(true)
    const refuse = { ...settings, whenGone: 'refuse' as const }
    expect(mayServeStale(LATER, refuse, 'upstream-gone', LATER)).toBe(false)
  })
})

describe('ttlSeconds', () => {
  it('is what is left, and negative after that', () => {
    expect(ttlSeconds(10_000, 60_000, 11_000)).toBe(59)
    expect(ttlSeconds(10_000, 60_000, 82_000)).toBe(-12)
  })
})

describe('FreshnessPolicy', () => {
  const policy = new FreshnessPolicy({
    ...DEFAULT_FRESHNESS,
    rules: [
      { match: 'docker.io/library/*:latest', ttlMs: 30_000 },
      { match: '**:v*.*.*', ttlMs: 86_400_000, whenGone: 'refuse' },
      { match: 'docker.io/library/*', ttlMs: 7_000 },
      { match: 'localhost:5000/app', ttlMs: 3_000 },
      { match: '**:latest', ttlMs: 1 },
    ],
  })

  it.each([
    ['docker.io', 'library/alpine', 'latest', 30_000],
    ['docker.io', 'library/alpine', 'v1.2.3', 86_400_000],
    ['docker.io', 'library/alpine', '3.20', 7_000],
    ['ghcr.io', 'a/b/c', 'v1.2.3', 86_400_000],
    ['localhost:5000', 'app', 'anything', 3_000],
    ['ghcr.io', 'a/b', 'latest', 1],
    ['ghcr.io', 'a/b', 'edge', 60_000],
  ])('the first rule that matches %s/%s:%s gives a ttl of %i ms', (registry, name, tag, ttl) => {
    expect(policy.settingsFor({ registry, name }, tag).ttlMs).toBe(ttl)
  })

  it('takes what a rule leaves out from the settings', () => {
    const settings = policy.settingsFor(ALPINE, 'v1.2.3')
    expect(settings).toEqual({ ...DEFAULT_FRESHNESS, ttlMs: 86_400_000, whenGone: 'refuse' })
  })

  it('shortens both times for tags that name a digest', () => {
    const tag = `sha256-${'a'.repeat(64)}.sig`
    const settings = policy.settingsFor(ALPINE, tag)
    expect(settings).toMatchObject({ ttlMs: 7_000, negativeTtlMs: 2_000 })
    expect(new FreshnessPolicy().settingsFor(ALPINE, tag).ttlMs).toBe(10_000)
  })
})
