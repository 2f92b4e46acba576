import { readFile } from 'node:fs/promises'
import { beforeAll, describe, expect, test } from 'vitest'
import { checkCertificates } from '../../src/files/pem.ts'
import { createAuthority } from '../support/certificates.ts'

let one: string
let two: string
let key: string

beforeAll(async () => {
  await using authority = await createAuthority()
  const other = await authority.server('a.test')
  one = await readFile(authority.ca.certFile, 'utf8')
  two = await readFile(other.certFile, 'utf8')
  key = await readFile(other.keyFile, 'utf8')
})

const check = (text: string) => checkCertificates(Buffer.from(text)).toString()

describe('a file of certificates', () => {
  test('is accepted as it is, with comments, any line ends and other blocks', () => {
    const text = `# ours\r\n${one.replaceAll('\n', '\r\n')}\nissuer=/CN=x\n${two}${key}`
    expect(check(text)).toBe(text)
    expect(check(one.replaceAll('CERTIFICATE', 'X509 CERTIFICATE'))).toContain('X509')
  })

  test.each([
    ['nothing', () => ''],
    ['a text', () => 'nothing of use'],
    ['a key', () => key],
  ])('that holds %s is refused', (_, text) => {
    expect(() => check(text())).toThrow('holds no PEM certificate')
  })

  test('that is half written is refused, wherever it ends', () => {
    for (let length = one.length + 30; length < one.length + two.length - 2; length += 37) {
      const text = `${one}${two}`.slice(0, length)
      expect(() => check(text), `${length} bytes`).toThrow('ends or is damaged within')
    }
  })

  test('with one that is damaged is refused, with its number', () => {
    const lines = two.split('\n')
    const damaged = [...lines.slice(0, 2), ...lines.slice(3)].join('\n')
    expect(() => check(one + damaged + one)).toThrow('number 2 of 3')
  })
})
