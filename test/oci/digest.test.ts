import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  algorithmOf,
  createDigester,
  digestOf,
  encodedOf,
  parseDigest,
} from '../../src/oci/digest.ts'

const HELLO = 'sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9'

describe('parseDigest', () => {
  it.each([HELLO, `sha512:${'0a'.repeat(64)}`])('accepts %s', (text) => {
    expect(parseDigest(text)).toBe(text)
  })

  it.each([
    '',
    'sha256',
    'sha256:',
    'sha256:totallywrong',
    HELLO.toUpperCase(),
    HELLO.replace('b9', 'B9'),
    `${HELLO}0`,
    HELLO.slice(0, -1),
    `${HELLO}\n`,
    ` ${HELLO}`,
    `sha512:${'a'.repeat(64)}`,
    `md5:${'a'.repeat(32)}`,
    `blake3:${'a'.repeat(64)}`,
    `sha256:${'g'.repeat(64)}`,
  ])('refuses %j', (text) => {
    expect(parseDigest(text)).toBeUndefined()
  })
})

describe('digestOf', () => {
  it('computes sha256 unless told otherwise', () => {
    expect(digestOf(Buffer.from('hello world'))).toBe(HELLO)
    expect(digestOf(Buffer.alloc(0), 'sha512')).toMatch(/^sha512:cf83e1357eefb8bd/)
  })

  it('gives what parseDigest accepts, made of its two halves', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.constantFrom('sha256', 'sha512'), (bytes, algorithm) => {
        const digest = digestOf(bytes, algorithm)
        expect(parseDigest(digest)).toBe(digest)
        expect(algorithmOf(digest)).toBe(algorithm)
        expect(`${algorithmOf(digest)}:${encodedOf(digest)}`).toBe(digest)
      }),
    )
  })
})

describe('createDigester', () => {
  it('gives for pieces what digestOf gives for the whole, at every step', () => {
    const pieces = fc.array(fc.uint8Array(), { maxLength: 8 })
    fc.assert(
      fc.property(pieces, fc.constantFrom('sha256', 'sha512'), (parts, algorithm) => {
        const digester = createDigester(algorithm)
        for (const [index, part] of parts.entries()) {
          digester.update(part)
          const soFar = Buffer.concat(parts.slice(0, index + 1))
          expect(digester.digest()).toBe(digestOf(soFar, algorithm))
        }
      }),
    )
  })
})
