import { expect, test } from 'vitest'
import { isLoopback, isPrivateHost } from '../../../src/upstream/address/private-host.ts'

test.each([
  ['localhost', true],
  ['LOCALHOST.', true],
  ['a.localhost', true],
  ['registry', true],
  ['', true],
  ['10.255.255.255', true],
  ['100.64.0.1', true],
  ['127.0.0.1', true],
  ['0.0.0.0', true],
  ['169.254.169.254', true],
  ['172.31.255.255', true],
  ['192.168.1.1', true],
  ['224.0.0.1', true],
  ['[::]', true],
  ['[::1]', true],
  ['[fd12::1]', true],
  ['[fe80::1]', true],
  ['[::ffff:10.0.0.1]', true],
  ['[64:ff9b::10.0.0.1]', true],
  ['8.8.8.8', false],
  ['172.32.0.1', false],
  ['[2606:4700::1111]', false],
  ['[::ffff:1.1.1.1]', false],
  ['registry.example.com', false],
  ['localhost.example.com', false],
])('the host %j is private: %s', (host, expected) => {
  expect(isPrivateHost(host)).toBe(expected)
})

test.each([
  ['localhost', true],
  ['LocalHost', true],
  ['127.9.9.9', true],
  ['[::1]', true],
  ['[::ffff:127.0.0.1]', true],
  ['0.0.0.0', false],
  ['[::]', false],
  ['128.0.0.1', false],
  ['10.0.0.1', false],
  ['[2001:db8::1]', false],
  ['localhost.example.com', false],
  ['127.example.com', false],
])('%s is loopback: %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected)
})
