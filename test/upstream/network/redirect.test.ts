import * as fc from 'fast-check'
import { expect, test } from 'vitest'

import { RedirectRefused, redirectTarget } from '../../../src/upstream/network/redirect.ts'

const FROM = new URL('https://registry.test/v2/a/blobs/b?x=1')
const to = (location: string | string[] | undefined, status = 307, from = FROM) =>
  redirectTarget({ status, headers: { location } }, from)?.href

test.each([
  ['https://cdn.test/x?sig=1', 'https://cdn.test/x?sig=1'],
  ['/other', 'https://registry.test/other'],
  ['c?y=2', 'https://registry.test/v2/a/blobs/c?y=2'],
  ['//cdn.test/x', 'https://cdn.test/x'],
  ['https://cdn.test/x#fragment', 'https://cdn.test/x'],
])('%s leads to %s', (location, expected) => {
  expect(to(location)).toBe(expected)
})

test.each([
  ['nowhere', undefined],
  ['in two places', ['https://a.test', 'https://b.test']],
  ['to plain http', 'http://registry.test/v2/a/blobs/b'],
  ['to no host', 'https://'],
  ['to a file', 'file:///etc/passwd'],
  ['with a password', 'https://user:secret@cdn.test/'],
])('%s is refused', (_what, location) => {
  expect(() => to(location)).toThrow(RedirectRefused)
})

test('plain http may lead to http and to https', () => {
  const from = new URL('http://registry.test/x')
  expect(to('http://cdn.test/', 302, from)).toBe('http://cdn.test/')
  expect(to('https://cdn.test/', 302, from)).toBe('https://cdn.test/')
})

test('a response that is not a redirect leads nowhere, whatever Location says', () => {
  for (const status of [200, 206, 300, 304, 305, 306, 404]) {
    expect(to('https://cdn.test/', status)).toBeUndefined()
  }
})

test('no Location leads to anything but an http(s) URL without a password', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.webUrl(), fc.webPath()), (location) => {
      try {
        const url = redirectTarget({ status: 302, headers: { location } }, FROM)
        expect(url?.protocol).toBe('https:')
        expect(url?.username).toBe('')
      } catch (error) {
        expect(error).toBeInstanceOf(RedirectRefused)
      }
    }),
  )
})
