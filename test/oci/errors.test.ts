import { describe, expect, it } from 'vitest'
import { ERRORS, errorBody, OciError } from '../../src/oci/errors.ts'

describe('OciError', () => {
  it('takes status and message from the table unless told otherwise', () => {
    const plain = new OciError('MANIFEST_UNKNOWN')
    expect(plain).toMatchObject({ status: 404, message: ERRORS.MANIFEST_UNKNOWN.message })
    expect(plain.headers).toEqual({})
    const cause = new Error('reset')
    const told = new OciError('UNAVAILABLE', 'the upstream is gone', {
      status: 502,
      detail: { endpoint: 'mirror' },
      headers: { 'retry-after': '3' },
      cause,
    })
    expect(told).toMatchObject({ status: 502, message: 'the upstream is gone', cause })
    expect(told.headers['retry-after']).toBe('3')
    expect(told.detail).toEqual({ endpoint: 'mirror' })
  })

  it.each([
    ['BLOB_UNKNOWN', 404],
    ['DENIED', 403],
    ['DIGEST_INVALID', 400],
    ['NAME_INVALID', 400],
    ['NAME_UNKNOWN', 404],
    ['PAGINATION_NUMBER_INVALID', 400],
    ['RANGE_INVALID', 416],
    ['TOOMANYREQUESTS', 429],
    ['UNAUTHORIZED', 401],
    ['UNKNOWN', 500],
    ['UNSUPPORTED', 405],
  ] as const)('%s has the status %d', (code, status) => {
    expect(new OciError(code).status).toBe(status)
  })
})

describe('errorBody', () => {
  it('has the shape of the specification, and no detail where there is none', () => {
    const error = new OciError('NAME_UNKNOWN', 'no such registry')
    expect(JSON.parse(errorBody(error).toString())).toEqual({
      errors: [{ code: 'NAME_UNKNOWN', message: 'no such registry' }],
    })
    const detailed = errorBody({ code: 'DENIED', message: 'no', detail: { reason: 'blocked' } })
    expect(JSON.parse(detailed.toString())).toEqual({
      errors: [{ code: 'DENIED', message: 'no', detail: { reason: 'blocked' } }],
    })
  })

  it('leaves out a detail that JSON cannot hold', () => {
    const body = errorBody({ code: 'UNKNOWN', message: 'm', detail: 1n })
    expect(JSON.parse(body.toString())).toEqual({ errors: [{ code: 'UNKNOWN', message: 'm' }] })
  })
})
