// Which network an IP address belongs to, and who may lead us there. An upstream's redirects and
// token realms are its input: they must not make us ask machines it could not ask itself (SSRF).
import { isIPv4, isIPv6 } from 'node:net'

/**
 * `private`: RFC 1918, 6598, 4193. `link-local` includes the clouds' metadata services, wherever
 * their address is. `reserved`: nothing answers there.
 */
export type AddressClass = 'public' | 'private' | 'loopback' | 'link-local' | 'reserved'

/**
 * What a connection may reach: `any` where the operator named the host, else by the registry's own
 * network.
 */
export type Reach = 'any' | AddressClass

type Range = readonly [base: string, bits: number, is: AddressClass]

/**
 * The first match wins (IANA special-purpose address registries). 198.18.0.0/15 and the
 * documentation ranges stay public: transparent proxies hand the former out as placeholders.
 */
const RANGES_V4: readonly Range[] = [
  ['100.100.100.200', 32, 'link-local'],
  ['168.63.129.16', 32, 'link-local'],
  ['192.0.0.192', 32, 'link-local'],
  ['0.0.0.0', 8, 'loopback'],
  ['127.0.0.0', 8, 'loopback'],
  ['10.0.0.0', 8, 'private'],
  ['172.16.0.0', 12, 'private'],
  ['192.168.0.0', 16, 'private'],
  ['100.64.0.0', 10, 'private'],
  ['169.254.0.0', 16, 'link-local'],
  ['192.0.0.0', 24, 'reserved'],
  ['224.0.0.0', 3, 'reserved'],
]

const RANGES_V6: readonly Range[] = [
  ['fd00:ec2::254', 128, 'link-local'],
  ['fd20:ce::254', 128, 'link-local'],
  ['::', 128, 'loopback'],
  ['::1', 128, 'loopback'],
  ['fe80::', 10, 'link-local'],
  ['fc00::', 7, 'private'],
  ['fec0::', 10, 'private'],
  ['64:ff9b:1::', 48, 'private'],
  ['2001::', 32, 'reserved'],
  ['100::', 64, 'reserved'],
  ['ff00::', 8, 'reserved'],
]

/**
 * Where an IPv4 address is inside an IPv6 one: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC
 * 3056).
 */
const EMBEDDED: readonly [base: string, bits: number, shift: bigint][] = [
  ['::ffff:0:0', 96, 0n],
  ['::ffff:0:0:0', 96, 0n],
  ['::', 96, 0n],
  ['64:ff9b::', 96, 0n],
  ['2002::', 16, 80n],
]

/** The network of an IP literal (IPv6 with or without brackets); undefined: not an IP address. */
export function addressClass(address: string): AddressClass | undefined {
  const bare = address.replace(/^\[|\]$/g, '').replace(/%.*$/, '')
  if (isIPv4(bare)) return classV4(numberV4(bare))
  return isIPv6(bare) ? classV6(numberV6(bare)) : undefined
}

/** Whether one whose reach is `reach` may lead us to an address of the network `to`. */
export function mayReach(reach: Reach, to: AddressClass): boolean {
  if (reach === 'any' || to === 'public') return true
  if (to === 'reserved') return false
  return to === reach || (reach === 'loopback' && to === 'private')
}

/** Whether an IP literal is in a network such as 10.0.0.0/8; false where either makes no sense. */
export function withinNetwork(address: string, network: string): boolean {
  const [base = '', bits = ''] = network.split('/')
  if (!/^\d{1,3}$/.test(bits)) return false
  if (isIPv4(address) && isIPv4(base) && Number(bits) <= 32) {
    return within(numberV4(address), numberV4(base), Number(bits), 32)
  }
  if (!isIPv6(address) || !isIPv6(base) || Number(bits) > 128) return false
  return within(numberV6(address), numberV6(base), Number(bits), 128)
}

/** The eight 16-bit groups of a valid IPv6 address without a zone. */
export function groupsOfV6(address: string): number[] {
  const number = numberV6(address)
  return Array.from({ length: 8 }, (_, i) => Number((number >> BigInt(112 - 16 * i)) & 0xffffn))
}

function classV4(address: bigint): AddressClass {
  return (
    RANGES_V4.find(([base, bits]) => within(address, numberV4(base), bits, 32))?.[2] ?? 'public'
  )
}

function classV6(address: bigint): AddressClass {
  const own = RANGES_V6.find(([base, bits]) => within(address, numberV6(base), bits, 128))
  if (own !== undefined) return own[2]
  const outer = EMBEDDED.find(([base, bits]) => within(address, numberV6(base), bits, 128))
  return outer === undefined ? 'public' : classV4((address >> outer[2]) & 0xffff_ffffn)
}

function within(address: bigint, base: bigint, bits: number, width: number): boolean {
  const host = BigInt(width - bits)
  return address >> host === base >> host
}

function numberV4(text: string): bigint {
  return text.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n)
}

/** `text` is a valid IPv6 address without a zone. */
function numberV6(text: string): bigint {
  const [head = '', tail] = text.split('::')
  const left = groups(head)
  const right = tail === undefined ? [] : groups(tail)
  const gap = Array.from({ length: 8 - left.length - right.length }, () => 0n)
  return [...left, ...gap, ...right].reduce((sum, group) => (sum << 16n) | group, 0n)
}

function groups(text: string): bigint[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [BigInt(`0x${group}`)]
    const v4 = numberV4(group)
    return [v4 >> 16n, v4 & 0xffffn]
  })
}
