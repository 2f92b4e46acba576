import { expect, test } from 'vitest'
import { SourceQueue } from '../../../src/cache/fetch/source-queue.ts'
import { type FailureReason, UpstreamError } from '../../../src/upstream/face/failure.ts'
import type { Source } from '../../../src/upstream/face/source.ts'

const DELAY_MS = 100

function sourceOf(id: string): Source {
  return { id, origin: `https://${id}.test/v2`, health: 'ok', fetch: unexpectedFetch }
}

const unexpectedFetch = () => Promise.reject(new Error('the queue asks nobody'))

function errorOf({ origin }: Source, reason: FailureReason, retryAfterMs?: number): UpstreamError {
  return new UpstreamError(reason, reason, { endpoint: origin, retryAfterMs })
}

function queueOf(...sources: Source[]): SourceQueue {
  const queue = new SourceQueue(DELAY_MS, () => 0)
  queue.add(sources)
  return queue
}

const failedAt = (source: Source, startedAt: number) => ({ source, startedAt, given: 10 })

test('only the last failure of each source counts, in the order in which the sources joined', () => {
  const [one, other] = [sourceOf('one'), sourceOf('other')]
  const queue = queueOf(one, other)
  queue.failed(failedAt(other, 0), errorOf(other, 'server-error'), false, 1)
  queue.failed(failedAt(one, 2), errorOf(one, 'cut'), true, 3)
  queue.failed(failedAt(one, 4), errorOf(one, 'token-refused'), true, 5)
  expect(queue.errors.map(({ reason }) => reason)).toEqual(['token-refused', 'server-error'])
})

test('a failure that a source recovered from no longer counts', () => {
  const source = sourceOf('one')
  const queue = queueOf(source)
  queue.failed(failedAt(source, 0), errorOf(source, 'cut'), true, 1)
  queue.succeeded(source)
  expect(queue.errors).toEqual([])
  const wrong = errorOf(source, 'wrong-digest')
  queue.corrupt(source, wrong)
  expect(queue.errors).toEqual([wrong])
})

test('a rate limit that ends soon is waited for once, also after a response that broke off', () => {
  const source = sourceOf('one')
  const queue = queueOf(source)
  queue.failed(failedAt(source, 0), errorOf(source, 'cut'), true, 1)
  queue.failed(failedAt(source, 200), errorOf(source, 'rate-limited', 1000), true, 201)
  expect(queue.next(1200)).toBeUndefined()
  expect(queue.msUntilNext(201)).toBe(1000)
  expect(queue.next(1201)).toBe(source)
  queue.failed(failedAt(source, 1201), errorOf(source, 'rate-limited', 1000), true, 1202)
  expect(queue.msUntilNext(1202)).toBeUndefined()
})

test('a source that made progress may rate-limit us again', () => {
  const source = sourceOf('one')
  const queue = queueOf(source)
  queue.failed(failedAt(source, 0), errorOf(source, 'rate-limited', 1000), true, 1)
  queue.succeeded(source)
  queue.failed(failedAt(source, 1500), errorOf(source, 'rate-limited', 1000), true, 1501)
  expect(queue.next(2501)).toBe(source)
})
