import { describe, expect, it } from 'vitest'
import { failureAt, isPaused } from '../../../src/cache/policy/backoff.ts'
import {
  faultIn,
  toAccessError,
  toClientError,
  type Wanted,
} from '../../../src/cache/policy/failure.ts'
import { OciError } from '../../../src/oci/errors.ts'
import { UpstreamError, type FailureReason } from '../../../src/upstream/face/failure.ts'

function failed(reason: FailureReason, retryAfterMs?: number): UpstreamError {
  return new UpstreamError(reason, 'what happened', { endpoint: 'https://x/v2', retryAfterMs })
}

describe('toClientError', () => {
  it.each<[FailureReason, Wanted, number, string]>([
    ['not-found', 'manifest', 404, 'MANIFEST_UNKNOWN'],
    ['not-found', 'blob', 404, 'BLOB_UNKNOWN'],
    ['not-found', 'tags', 404, 'NAME_UNKNOWN'],
    ['blocked', 'manifest', 403, 'DENIED'],
    ['bad-credentials', 'blob', 403, 'DENIED'],
    ['rate-limited', 'manifest', 503, 'TOOMANYREQUESTS'],
    ['timed-out', 'manifest', 504, 'UNAVAILABLE'],
    ['refused', 'manifest', 503, 'UNAVAILABLE'],
    ['name-not-resolved', 'manifest', 503, 'UNAVAILABLE'],
    ['server-error', 'manifest', 502, 'UNAVAILABLE'],
    ['not-trusted', 'manifest', 502, 'UNAVAILABLE'],
    ['wrong-digest', 'blob', 502, 'UNAVAILABLE'],
    ['loop', 'manifest', 508, 'UNAVAILABLE'],
  ])('makes of %s, for a client that wanted %s: %i %s', (reason, what, status, code) => {
    const error = toClientError(failed(reason), what)
    expect({ status: error.status, code: error.code }).toEqual({ status, code })
    expect(error.message).toBe('what happened')
    expect(error.detail).toEqual({ reason })
  })

  it('says when to come back, in whole seconds and at least one', () => {
    expect(toClientError(failed('rate-limited', 1_200), 'blob').headers).toEqual({
      'retry-after': '2',
    })
    expect(toClientError(failed('rate-limited', 0), 'blob').headers).toEqual({ 'retry-after': '1' })
    expect(toClientError(failed('rate-limited'), 'blob').headers).toHaveProperty('retry-after')
    expect(toClientError(failed('reset'), 'blob').headers).toEqual({})
  })

  it('passes an OciError on as it is', () => {
    const error = new OciError('NAME_INVALID')
    expect(toClientError(error, 'blob')).toBe(error)
  })

  it('tells clients nothing of a fault of ours', () => {
    const error = toClientError(new TypeError('secret /path'), 'manifest')
    expect(error).toMatchObject({ status: 500, code: 'UNKNOWN' })
    expect(error.message).not.toContain('secret')
  })

  it.each(['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS'])('is a 503 with the cure for %s', (code) => {
    const cause = Object.assign(new Error('secret /path'), { code })
    const error = toClientError(cause, 'manifest')
    expect(error).toMatchObject({ status: 503, code: 'UNAVAILABLE', cause })
    expect(error.headers).toEqual({ 'retry-after': '5' })
    expect(error.message).toMatch(/^out of .*: (raise|give) /)
  })
})

describe('faultIn', () => {
  it('finds an error that is ours, also in the answer that was made of it', () => {
    const error = new TypeError('x')
    expect(faultIn(error)).toBe(error)
    expect(faultIn(toClientError(error, 'blob'))).toBe(error)
    expect(faultIn(toAccessError(error, 'blob'))).toBe(error)
  })

  it('finds none in what an upstream explains, nor in an answer', () => {
    expect(faultIn(failed('reset'))).toBeUndefined()
    expect(faultIn(toClientError(failed('reset'), 'blob'))).toBeUndefined()
    expect(faultIn(new OciError('NAME_INVALID'))).toBeUndefined()
  })
})

describe('toAccessError', () => {
  it('is a 503 for an upstream that cannot be asked, and otherwise what the upstream said', () => {
    expect(toAccessError(failed('timed-out'), 'blob').status).toBe(503)
    expect(toAccessError(failed('server-error'), 'blob').status).toBe(503)
    expect(toAccessError(failed('not-found'), 'blob').status).toBe(404)
    expect(toAccessError(failed('denied'), 'blob').status).toBe(403)
  })
})

describe('failureAt', () => {
  it('pauses no longer than the ttl, at most 5 s and at least 1 s', () => {
    expect(failureAt(failed('timed-out'), 60_000, 100).until).toBe(5_100)
    expect(failureAt(failed('timed-out'), 2_000, 100).until).toBe(2_100)
    expect(failureAt(failed('timed-out'), 0, 100).until).toBe(1_100)
    expect(failureAt(new Error('ours'), 60_000, 100).until).toBe(5_100)
  })

  it('pauses until Retry-After when rate-limited, at most an hour', () => {
    expect(failureAt(failed('rate-limited', 30_000), 1, 100).until).toBe(30_100)
    expect(failureAt(failed('rate-limited'), 1, 100).until).toBe(60_100)
    expect(failureAt(failed('rate-limited', 1e12), 1, 0).until).toBe(3_600_000)
  })

  it('ends at its time, and at once when the clock goes back', () => {
    const failure = failureAt(failed('reset'), 60_000, 10_000)
    expect(isPaused(failure, 14_999)).toBe(true)
    expect(isPaused(failure, 15_000)).toBe(false)
    expect(isPaused(failure, 9_999)).toBe(false)
    expect(isPaused(undefined, 0)).toBe(false)
  })
})
