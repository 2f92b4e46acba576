import { expect, test } from 'vitest'
import { isLoopback, isPrivateAddress, isPrivateHost } from '../../src/upstream/private-host.ts'

test.each([
  '0.0.0.0',
  '10.255.255.255',
  '100.64.0.1',
  '127.0.0.1',
  '169.254.169.254',
  '172.31.255.255',
  '192.168.1.1',
  '198.19.0.1',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  'fd12::1',
  'fe80::1',
  'ff02::1',
  '::ffff:10.0.0.1',
  '::ffff:7f00:1',
  '64:ff9b::10.0.0.1',
])('the address %s is private', (address) => {
  expect(isPrivateAddress(address)).toBe(true)
})

test.each([
  '1.1.1.1',
  '9.255.255.255',
  '172.32.0.1',
  '192.169.0.1',
  '100.128.0.1',
  '223.255.255.1',
])('the address %s is public, in IPv6 clothes too', (address) => {
  expect(isPrivateAddress(address)).toBe(false)
  expect(isPrivateAddress(`::ffff:${address}`)).toBe(false)
  expect(isPrivateAddress(`64:ff9b::${address}`)).toBe(false)
})

test.each(['2606:4700::1111', '2001:4860:4860::8888', 'not an address', 'registry.example.com'])(
  '%s is no private address',
  (address) => {
    expect(isPrivateAddress(address)).toBe(false)
  },
)

test.each([
  ['localhost', true],
  ['LOCALHOST.', true],
  ['a.localhost', true],
  ['registry', true],
  ['[::1]', true],
  ['[2606:4700::1111]', false],
  ['10.0.0.1', true],
  ['8.8.8.8', false],
  ['registry.example.com', false],
  ['', true],
])('the host %j is private: %s', (host, expected) => {
  expect(isPrivateHost(host)).toBe(expected)
})

test.each([
  ['localhost', true],
  ['LocalHost', true],
  ['127.9.9.9', true],
  ['[::1]', true],
  ['::1', true],
  ['128.0.0.1', false],
  ['10.0.0.1', false],
  ['localhost.example.com', false],
])('%s is loopback: %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected)
})
