import * as fc from 'fast-check'
import { expect, test } from 'vitest'

import {
  leastFinal,
  UpstreamError,
  type FailureReason,
} from '../../../src/upstream/face/failure.ts'

const failed = (reason: FailureReason, retryAfterMs?: number) =>
  new UpstreamError(reason, reason, { endpoint: 'https://a.test/v2', retryAfterMs })

test('the least final failure decides: unavailable, rate limited, corrupt, denied, gone', () => {
  const order: FailureReason[] = ['refused', 'rate-limited', 'wrong-digest', 'blocked', 'not-found']
  fc.assert(
    fc.property(fc.shuffledSubarray(order, { minLength: 1 }), (reasons) => {
      const first = order.find((reason) => reasons.includes(reason))
      expect(leastFinal(reasons.map((reason) => failed(reason))).reason).toBe(first)
    }),
  )
})

test('the first of equal failures decides, and of rate limits the one that ends first', () => {
  expect(leastFinal([failed('tls'), failed('refused')]).reason).toBe('tls')
  const limits = [failed('rate-limited'), failed('rate-limited', 9), failed('rate-limited', 3)]
  expect(leastFinal(limits).retryAfterMs).toBe(3)
})

test('a rate limit that ends soon is less final than an endpoint that fails', () => {
  expect(leastFinal([failed('refused'), failed('rate-limited', 10_000)]).kind).toBe('rate-limited')
  expect(leastFinal([failed('refused'), failed('rate-limited', 10_001)]).kind).toBe('unavailable')
})

test('having asked nobody is a mistake of the caller', () => {
  expect(() => leastFinal([])).toThrow(RangeError)
})
