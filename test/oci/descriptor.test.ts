import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readDescriptor } from '../../src/oci/descriptor.ts'

const digest = `sha256:${'ab'.repeat(32)}` as const
const least = { mediaType: 'text/plain', digest, size: 3 }

describe('readDescriptor', () => {
  it('keeps every field of the specification and nothing else', () => {
    const full = {
      ...least,
      artifactType: 'application/x',
      annotations: { a: 'b' },
      urls: ['https://example.com/layer'],
      platform: { os: 'linux', architecture: 'amd64' },
      data: 'eA==',
    }
    expect(readDescriptor({ ...full, extra: 1 })).toEqual(full)
    expect(readDescriptor(least)).toEqual(least)
  })

  it('leaves out optional fields that are empty or of the wrong type', () => {
    const odd = { artifactType: '', annotations: { a: 1 }, urls: [1], platform: [], data: 5 }
    expect(Object.keys(readDescriptor({ ...least, ...odd }) ?? {})).toEqual(Object.keys(least))
    const mixed = readDescriptor({ ...least, annotations: { a: 'b', c: null }, urls: ['u', 2] })
    expect(mixed).toEqual({ ...least, annotations: { a: 'b' }, urls: ['u'] })
  })

  it('reads a missing type as bytes', () => {
    expect(readDescriptor({ digest, size: 0 })?.mediaType).toBe('application/octet-stream')
  })

  it.each([
    [undefined],
    [null],
    ['text'],
    [[least]],
    [{}],
    [{ ...least, digest: undefined }],
    [{ ...least, digest: 'sha256:no' }],
    [{ ...least, digest: 5 }],
    [{ ...least, size: undefined }],
    [{ ...least, size: -1 }],
    [{ ...least, size: 1.5 }],
    [{ ...least, size: '3' }],
    [{ ...least, size: Number.NaN }],
    [{ ...least, size: 2 ** 53 }],
  ])('does not read %j', (value) => {
    expect(readDescriptor(value)).toBeUndefined()
  })

  it('does not let an annotation touch the prototype', () => {
    const parsed: unknown = JSON.parse(
      `{"digest":"${digest}","size":1,"annotations":{"__proto__":"x"}}`,
    )
    expect(Object.entries(readDescriptor(parsed)?.annotations ?? {})).toEqual([['__proto__', 'x']])
  })

  it('reads any JSON, and reads back what it read', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
        expect(() => readDescriptor(a)).not.toThrow()
        const read = readDescriptor({ ...least, annotations: a, urls: b, platform: a, data: b })
        expect(readDescriptor(read)).toEqual(read)
      }),
    )
  })
})
