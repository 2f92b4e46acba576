// Which hosts are inside somebody's own network, judged by how they are written. An address that
// a name resolves to is judged when it is connected to, not here.
import { BlockList, isIP } from 'node:net'

const PRIVATE_IPV4 = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const

const PRIVATE_IPV6 = [
  ['::', 127],
  ['64:ff9b:1::', 48],
  ['fc00::', 7],
  ['fe80::', 9],
  ['ff00::', 8],
] as const

const privateAddresses = new BlockList()
for (const [network, bits] of PRIVATE_IPV4) {
  privateAddresses.addSubnet(network, bits, 'ipv4')
  // NAT64 (RFC 6052) carries the same addresses; mapped ones (::ffff:) are BlockList's own affair.
  privateAddresses.addSubnet(`64:ff9b::${network}`, 96 + bits, 'ipv6')
}
for (const [network, bits] of PRIVATE_IPV6) privateAddresses.addSubnet(network, bits, 'ipv6')

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** Whether an address is loopback, link-local, private, shared, multicast or reserved (IANA's special-purpose registries). */
export function isPrivateAddress(address: string): boolean {
  const family = isIP(address)
  return family !== 0 && privateAddresses.check(address, family === 4 ? 'ipv4' : 'ipv6')
}

/** Whether a hostname (no port) can only be one of the own network: a private address, localhost, or a single label. */
export function isPrivateHost(hostname: string): boolean {
  const bare = unbracket(hostname)
  if (isIP(bare) !== 0) return isPrivateAddress(bare)
  const name = bare.toLowerCase().replace(/\.$/, '')
  return !name.includes('.') || name.endsWith('.localhost')
}

/** Whether a hostname (no port) is localhost or an address of the loopback interface. */
export function isLoopback(hostname: string): boolean {
  const bare = unbracket(hostname)
  const family = isIP(bare)
  if (family === 0) return bare.toLowerCase() === 'localhost'
  return loopback.check(bare, family === 4 ? 'ipv4' : 'ipv6')
}

function unbracket(hostname: string): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
}
