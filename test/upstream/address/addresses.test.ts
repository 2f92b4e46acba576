import * as fc from 'fast-check'
import { expect, test } from 'vitest'

import {
  addressClass,
  mayReach,
  type AddressClass,
  type Reach,
} from '../../../src/upstream/address/addresses.ts'
import {
  AddressRefused,
  checkLiteral,
  guardedLookup,
} from '../../../src/upstream/address/lookup.ts'
import { Resolver } from '../../../src/upstream/address/resolver.ts'

const TABLE: [address: string, is: AddressClass | undefined][] = [
  ['8.8.8.8', 'public'],
  ['198.18.0.7', 'public'],
  ['203.0.113.7', 'public'],
  ['172.15.255.255', 'public'],
  ['172.32.0.0', 'public'],
  ['2606:4700::1111', 'public'],
  ['10.1.2.3', 'private'],
  ['172.16.0.1', 'private'],
  ['172.31.255.255', 'private'],
  ['192.168.1.1', 'private'],
  ['100.64.0.1', 'private'],
  ['fd12:3456::1', 'private'],
  ['fec0::1', 'private'],
  ['127.0.0.1', 'loopback'],
  ['127.255.0.1', 'loopback'],
  ['0.0.0.0', 'loopback'],
  ['::', 'loopback'],
  ['::1', 'loopback'],
  ['[::1]', 'loopback'],
  ['169.254.169.254', 'link-local'],
  ['100.100.100.200', 'link-local'],
  ['168.63.129.16', 'link-local'],
  ['fe80::1%eth0', 'link-local'],
  ['febf::1', 'link-local'],
  ['fd00:ec2::254', 'link-local'],
  ['224.0.0.1', 'reserved'],
  ['255.255.255.255', 'reserved'],
  ['ff02::1', 'reserved'],
  ['2001::1', 'reserved'],
  ['::ffff:10.0.0.1', 'private'],
  ['::ffff:a9fe:a9fe', 'link-local'],
  ['::ffff:8.8.8.8', 'public'],
  ['::127.0.0.1', 'loopback'],
  ['64:ff9b::169.254.169.254', 'link-local'],
  ['64:ff9b::8.8.8.8', 'public'],
  ['2002:a00:1::1', 'private'],
  ['2002:808:808::1', 'public'],
  ['example.com', undefined],
  ['', undefined],
  ['256.1.1.1', undefined],
]

test.each(TABLE)('%s is %s', (address, is) => {
  expect(addressClass(address)).toBe(is)
})

test('an IPv4 address belongs to the same network however IPv6 writes it', () => {
  fc.assert(
    fc.property(fc.ipV4(), (address) => {
      const plain = addressClass(address)
      expect(addressClass(`::ffff:${address}`)).toBe(plain)
      expect(addressClass(`64:ff9b::${address}`)).toBe(plain)
    }),
  )
})

test('every IPv6 address belongs to some network', () => {
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      expect(addressClass(address)).toBeDefined()
    }),
  )
})

test.each<[Reach, AddressClass[]]>([
  ['any', ['public', 'private', 'loopback', 'link-local', 'reserved']],
  ['public', ['public']],
  ['private', ['public', 'private']],
  ['loopback', ['public', 'private', 'loopback']],
  ['link-local', ['public', 'link-local']],
  ['reserved', ['public']],
])('a registry at a %s address may lead to %s', (reach, expected) => {
  const all: AddressClass[] = ['public', 'private', 'loopback', 'link-local', 'reserved']
  expect(all.filter((to) => mayReach(reach, to))).toEqual(expected)
})

function lookup(hostname: string, reach: Reach, all: boolean, fixed?: string[]): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>()
  guardedLookup(reach, fixed, new Resolver())(hostname, { all }, (error, address, family) => {
    if (error) reject(error)
    else resolve(all ? address : { address, family })
  })
  return promise
}

test('a name is judged by what it resolves to', async () => {
  await expect(lookup('localhost', 'public', true)).rejects.toThrow(AddressRefused)
  expect(await lookup('localhost', 'any', true)).toContainEqual(
    expect.objectContaining({ address: expect.stringMatching(/^(127\.0\.0\.1|::1)$/) }),
  )
})

test('fixed addresses replace DNS, and only those within reach are used', async () => {
  const fixed = ['10.0.0.1', '203.0.113.7', '2001:db8::7']
  expect(await lookup('no.such.name.invalid', 'public', true, fixed)).toEqual([
    { address: '203.0.113.7', family: 4 },
    { address: '2001:db8::7', family: 6 },
  ])
  expect(await lookup('x.invalid', 'any', false, fixed)).toEqual({ address: '10.0.0.1', family: 4 })
})

test('an IP literal is judged without a lookup', () => {
  expect(() => checkLiteral('[::ffff:127.0.0.1]', 'public')).toThrow(AddressRefused)
  expect(() => checkLiteral('127.0.0.1', 'loopback')).not.toThrow()
  expect(() => checkLiteral('example.com', 'public')).not.toThrow()
})
