import { describe, expect, it } from 'vitest'
import { NegativeCache, RememberedFailure } from '../../../src/cache/policy/negative-cache.ts'
import { UpstreamError, type FailureReason } from '../../../src/upstream/face/failure.ts'

function failed(reason: FailureReason): UpstreamError {
  return new UpstreamError(reason, 'what happened', { endpoint: 'https://x/v2' })
}

describe('NegativeCache', () => {
  it('remembers a 404 for its time, however often it is answered', () => {
    let now = 1_000
    const cache = new NegativeCache({ now: () => now })
    cache.remember('key', failed('not-found'), 500)
    now = 1_499
    const remembered = cache.get('key')
    expect(remembered).toBeInstanceOf(RememberedFailure)
    expect(remembered).toMatchObject({ kind: 'gone', message: 'what happened', at: 1_000 })
    cache.remember('key', remembered, 500)
    now = 1_500
    expect(cache.get('key')).toBeUndefined()
  })

  it.each<FailureReason>([
    'denied',
    'needs-credentials',
    'rate-limited',
    'server-error',
    'wrong-digest',
  ])('never remembers %s', (reason) => {
    const cache = new NegativeCache()
    cache.remember('key', failed(reason), 60_000)
    expect(cache.get('key')).toBeUndefined()
  })

  it('remembers nothing with a time of 0, and nothing from the future', () => {
    let now = 1_000
    const cache = new NegativeCache({ now: () => now })
    cache.remember('zero', failed('not-found'), 0)
    cache.remember('key', failed('not-found'), 500)
    now = 999
    expect(cache.get('zero')).toBeUndefined()
    expect(cache.get('key')).toBeUndefined()
  })

  it('is bounded, and can be told to forget', () => {
    const cache = new NegativeCache({ maxEntries: 2 })
    for (const key of ['a', 'b', 'c']) cache.remember(key, failed('not-found'), 60_000)
    expect(cache.get('a')).toBeUndefined()
    expect(cache.get('c')).toBeDefined()
    cache.forget('c')
    expect(cache.get('c')).toBeUndefined()
  })
})
