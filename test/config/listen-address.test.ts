import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { formatListenAddress, parseListenAddress } from '../../src/config/listen-address.ts'
import { ValueError } from '../../src/config/value-error.ts'

test.each([
  ['0.0.0.0:5000', { host: '0.0.0.0', port: 5000 }],
  [':5000', { host: undefined, port: 5000 }],
  ['[::1]:5000', { host: '::1', port: 5000 }],
  ['[::]:0', { host: '::', port: 0 }],
  ['localhost:5000', { host: 'localhost', port: 5000 }],
  ['registry.cache_1.internal:65535', { host: 'registry.cache_1.internal', port: 65_535 }],
])('%s is understood and printed the same way', (text, address) => {
  expect(parseListenAddress(text)).toEqual(address)
  expect(formatListenAddress(parseListenAddress(text))).toBe(text)
})

test.each([
  ['5000', 'write ":5000"'],
  ['localhost', 'write host:port'],
  ['http://localhost:5000', 'leave out the scheme'],
  ['::1:5000', 'write IPv6 as [::1]:5000'],
  ['::1', 'write IPv6 as [::1]:5000'],
  ['localhost:65536', 'at most 65535'],
  ['[1.2.3.4]:5000', 'brackets hold an IPv6'],
  ['300.1.1.1:5000', 'not a host name'],
  ['-a:5000', 'not a host name'],
  ['a b:5000', 'not a host name'],
  [':', 'write host:port'],
  ['', 'write host:port'],
])('%j is refused: %s', (text, why) => {
  expect(() => parseListenAddress(text)).toThrow(why)
  expect(() => parseListenAddress(text)).toThrow(ValueError)
})

test('any accepted address is printed in a form that reads back', () => {
  const host = fc.oneof(
    fc.domain(),
    fc.ipV4(),
    fc.ipV6().map((ip) => `[${ip}]`),
    fc.constant(''),
  )
  fc.assert(
    fc.property(host, fc.integer({ min: 0, max: 65_535 }), (name, port) => {
      const address = parseListenAddress(`${name}:${port}`)
      expect(parseListenAddress(formatListenAddress(address))).toEqual(address)
    }),
  )
})
