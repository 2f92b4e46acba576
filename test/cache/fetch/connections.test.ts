import { expect, test } from 'vitest'
import { Concurrency } from '../../../src/cache/fetch/connections.ts'

const OPTIONS = { connections: 4, most: 16 }

/** Feeds `rate` bytes a millisecond for `ms`, in steps of 10 ms; returns the time after it. */
function feed(
  concurrency: Concurrency,
  rate: (limit: number) => number,
  from: number,
  ms: number,
): number {
  for (let now = from; now < from + ms; now += 10)
    concurrency.arrived(rate(concurrency.limit) * 10, now + 10)
  return from + ms
}

test('one connection is used until something answers, and where the link is near and fast', () => {
  const near = new Concurrency(OPTIONS)
  expect(near.limit).toBe(1)
  near.opened(1, 0)
  expect(near.limit).toBe(1)
  feed(near, () => 500_000, 0, 10_000)
  expect(near.limit).toBe(1)
})

test('several connections are used at once where the first byte comes late', () => {
  const far = new Concurrency(OPTIONS)
  far.opened(50, 0)
  expect(far.limit).toBe(4)
})

test('several connections are used where a near link proves to be slow', () => {
  const slow = new Concurrency(OPTIONS)
  slow.opened(1, 0)
  feed(slow, () => 10_000, 0, 200)
  expect(slow.limit).toBe(4)
})

test('connections are added while more of them bring more, as on a link that loses packets', () => {
  const lossy = new Concurrency(OPTIONS)
  lossy.opened(50, 0)
  feed(lossy, (limit) => limit * 500, 0, 10_000)
  expect(lossy.limit).toBe(16)
})

test('no connection is added where more of them bring nothing', () => {
  const full = new Concurrency(OPTIONS)
  full.opened(50, 0)
  feed(full, () => 10_000, 0, 5_000)
  expect(full.limit).toBe(4)
})

test('connections never exceed the maximum', () => {
  const one = new Concurrency({ connections: 4, most: 1 })
  one.opened(50, 0)
  feed(one, () => 10, 0, 10_000)
  expect(one.limit).toBe(1)
})
