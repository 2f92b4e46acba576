// Name resolution for connections: fixed addresses instead of DNS, and the address rule applied to
// what a name resolved to (a check of the name alone would be undone by the next DNS answer).
import { lookup as systemLookup } from 'node:dns'
import type { LookupAddress } from 'node:dns'
import { isIP } from 'node:net'
import type { LookupFunction } from 'node:net'

import { addressClass, mayReach } from './addresses.ts'
import type { Reach } from './addresses.ts'

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

/** A `lookup` for net.connect that answers only addresses within reach. */
export function guardedLookup(reach: Reach, fixed: readonly string[] | undefined): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, options, fixed, (error, found) => {
      const allowed = found.filter(({ address }) => isWithin(address, reach))
      const [first] = allowed
      const failure = error ?? (first === undefined ? new AddressRefused(hostname) : null)
      if (failure !== null || first === undefined) callback(failure, [])
      else if (options.all === true) callback(null, allowed)
      else callback(null, first.address, first.family)
    })
  }
}

function resolve(
  hostname: string,
  options: object,
  fixed: readonly string[] | undefined,
  callback: (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void,
): void {
  if (fixed === undefined) {
    systemLookup(hostname, { ...options, all: true }, (error, found) =>
      callback(error, found ?? []),
    )
    return
  }
  const found = fixed.map((address) => ({ address, family: isIP(address) }))
  // Never in the caller's turn: net.connect attaches its listeners after calling lookup.
  process.nextTick(callback, null, found)
}

function isWithin(address: string, reach: Reach): boolean {
  return mayReach(reach, addressClass(address) ?? 'reserved')
}
