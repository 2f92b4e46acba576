// Which hosts are inside somebody's own network, judged by how they are written. An address that
// a name resolves to is judged when it is connected to, by addresses.ts, not here.
import { isIPv4 } from 'node:net'
import { addressClass } from './addresses.ts'

/**
 * Whether a hostname (no port) can only be of the own network: an address that is not public,
 * localhost, or a single label.
 */
export function isPrivateHost(hostname: string): boolean {
  const network = addressClass(hostname)
  if (network !== undefined) return network !== 'public'
  const name = hostname.toLowerCase().replace(/\.$/, '')
  return !name.includes('.') || name.endsWith('.localhost')
}

/**
 * Whether a hostname (no port) is localhost or a loopback address; 0.0.0.0 is none (Go's
 * IsLoopback, as K3s uses it).
 */
export function isLoopback(hostname: string): boolean {
  if (hostname.toLowerCase() === 'localhost') return true
  if (isIPv4(hostname)) return hostname.startsWith('127.')
  return hostname !== '[::]' && addressClass(hostname) === 'loopback'
}
