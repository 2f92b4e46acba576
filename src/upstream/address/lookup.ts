// Name resolution for connections: fixed addresses instead of DNS, and the address rule applied to
// what a name resolved to (a check of the name alone would be undone by the next DNS answer).
import type { LookupAddress } from 'node:dns'
import { isIP } from 'node:net'
import type { LookupFunction } from 'node:net'
import { callbackify } from 'node:util'

import { addressClass, mayReach } from './addresses.ts'
import type { Reach } from './addresses.ts'
import { isPrivateHost } from './private-host.ts'

/** A host that an upstream led us to is at an address it may not lead us to. */
export class AddressRefused extends Error {
  override readonly name = 'AddressRefused'
  readonly code = 'CHANDLERY_ADDRESS_REFUSED'
  readonly hostname: string

  constructor(hostname: string) {
    super(`${hostname} is at an address that is not public`)
    this.hostname = hostname
  }
}

/** Throws AddressRefused for an IP literal out of reach; names are left to the lookup. */
export function checkLiteral(hostname: string, reach: Reach): void {
  const network = addressClass(hostname)
  if (network !== undefined && !mayReach(reach, network)) throw new AddressRefused(hostname)
}

/**
 * A proxy resolves names itself, so only how a name is written can be judged: throws AddressRefused
 * for one that can only be of the own network. What else its names lead to is the proxy's to refuse.
 */
export function checkProxied(hostname: string, reach: Reach): void {
  const isName = addressClass(hostname) === undefined
  if (reach === 'public' && isName && isPrivateHost(hostname)) throw new AddressRefused(hostname)
}

/** Names to addresses, at least one. */
export interface AddressSource {
  resolve(hostname: string): Promise<readonly LookupAddress[]>
}

/** A `lookup` for net.connect that answers only addresses within reach. */
export function guardedLookup(
  reach: Reach,
  fixed: readonly string[] | undefined,
  source: AddressSource,
): LookupFunction {
  const find = async (hostname: string) => {
    const found = await addressesOf(hostname, fixed, source)
    const allowed = found.filter(({ address }) => isWithin(address, reach))
    if (allowed.length === 0) throw new AddressRefused(hostname)
    return allowed
  }
  const lookup = callbackify(find)
  return (hostname, options, callback) => {
    lookup(hostname, (error, found) => {
      const [first] = found ?? []
      if (error !== null || first === undefined) callback(error, [])
      else if (options.all === true) callback(null, found)
      else callback(null, first.address, first.family)
    })
  }
}

async function addressesOf(
  hostname: string,
  fixed: readonly string[] | undefined,
  source: AddressSource,
): Promise<LookupAddress[]> {
  const found = fixed?.map((address) => ({ address, family: isIP(address) }))
  return found ?? [...(await source.resolve(hostname))]
}

function isWithin(address: string, reach: Reach): boolean {
  return mayReach(reach, addressClass(address) ?? 'reserved')
}
