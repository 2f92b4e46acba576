// Names to addresses: by the system or by given servers, and from memory while those fail. Which of
// the addresses may be connected to is decided by lookup.ts.
import { lookup as systemLookup, Resolver as DnsClient } from 'node:dns/promises'
import type { LookupAddress } from 'node:dns'
import { open } from 'node:fs/promises'
import { isIP } from 'node:net'
import { devNull } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { LRUCache } from 'lru-cache'

import { exhaustionOf, isBug } from '../../process/own-fault.ts'

export interface ResolverOptions {
  /** Address[:port] of the servers to ask instead of the system's resolver. */
  readonly servers?: readonly string[] | undefined
  readonly now?: () => number
  /** Default: the system's resolver, or `servers`. */
  readonly ask?: (hostname: string) => Promise<LookupAddress[]>
  /** How long to wait for an answer while there is a former one. */
  readonly patienceMs?: number
}

interface Remembered {
  readonly found: readonly LookupAddress[]
  readonly atMs: number
}

const MAX_NAMES = 4096
const PATIENCE_MS = 2000
/** A name that nobody could resolve for a day is gone. */
const KEEP_MS = 86_400_000
/** An address that did not answer comes last for so long. */
const AVOID_MS = 60_000
const DNS_TIMEOUT_MS = 2000
const DNS_TRIES = 2

export class Resolver {
  /** Equal ones ask the same servers. */
  readonly id: string
  readonly #now: () => number
  readonly #ask: (hostname: string) => Promise<LookupAddress[]>
  readonly #patienceMs: number
  readonly #good = new LRUCache<string, Remembered>({ max: MAX_NAMES })
  readonly #asking = new Map<string, Promise<LookupAddress[]>>()
  /** Names about which the servers say nothing: nobody waits for that again until they do. */
  readonly #silent = new LRUCache<string, true>({ max: MAX_NAMES })
  readonly #avoided = new LRUCache<string, number>({ max: MAX_NAMES })

  constructor(options: ResolverOptions = {}) {
    const { servers = [], now = Date.now, patienceMs = PATIENCE_MS } = options
    this.#now = now
    this.#patienceMs = patienceMs
    this.id = servers.join(' ')
    this.#ask = options.ask ?? (servers.length > 0 ? askServers(servers) : askSystem)
  }

  /**
   * At least one address, the ones likely to answer first. Throws the resolver's error where none
   * was ever known.
   */
  async resolve(hostname: string): Promise<LookupAddress[]> {
    const family = isIP(hostname)
    if (family !== 0) return [{ address: hostname, family }]
    return this.#ordered(await this.#find(hostname))
  }

  /** A connection to it was not made in time. */
  avoid(address: string): void {
    this.#avoided.set(address, this.#now() + AVOID_MS)
  }

  async #find(hostname: string): Promise<readonly LookupAddress[]> {
    const good = this.#good.get(hostname)
    const former = good && good.atMs + KEEP_MS > this.#now() ? good.found : undefined
    const fresh = this.#fresh(hostname)
    if (former === undefined) return await fresh
    if (this.#silent.has(hostname)) return former
    const patience = new AbortController()
    const late = sleep(this.#patienceMs, undefined, { signal: patience.signal, ref: false })
    try {
      const known = fresh.catch((error: unknown) => {
        if (isBug(error)) throw error
        return former
      })
      const found = await Promise.race([known, late])
      if (found === undefined) this.#silent.set(hostname, true)
      return found ?? former
    } finally {
      patience.abort()
      late.catch(() => undefined)
    }
  }

  /** One question for all who ask meanwhile: the system's resolver blocks a thread for each. */
  #fresh(hostname: string): Promise<LookupAddress[]> {
    const running = this.#asking.get(hostname)
    if (running !== undefined) return running
    const asking = this.#learn(hostname).finally(() => this.#asking.delete(hostname))
    asking.catch(() => undefined)
    this.#asking.set(hostname, asking)
    return asking
  }

  async #learn(hostname: string): Promise<LookupAddress[]> {
    const found = await this.#ask(hostname).catch(async (error: unknown) => {
      throw (await missingDescriptor()) ?? error
    })
    if (found.length === 0) throw notFound(hostname)
    this.#good.set(hostname, { found, atMs: this.#now() })
    this.#silent.delete(hostname)
    return found
  }

  #ordered(found: readonly LookupAddress[]): LookupAddress[] {
    const isAvoided = ({ address }: LookupAddress) =>
      (this.#avoided.get(address) ?? 0) > this.#now()
    return [...found.filter((each) => !isAvoided(each)), ...found.filter(isAvoided)]
  }
}

function askSystem(hostname: string): Promise<LookupAddress[]> {
  return systemLookup(hostname, { all: true, order: 'verbatim' })
}

/** A and AAAA at once; either is enough. */
function askServers(servers: readonly string[]): (hostname: string) => Promise<LookupAddress[]> {
  const client = new DnsClient({ timeout: DNS_TIMEOUT_MS, tries: DNS_TRIES })
  client.setServers(servers)
  return async (hostname) => {
    const [v6, v4] = await Promise.allSettled([
      client.resolve6(hostname),
      client.resolve4(hostname),
    ])
    const found = [...addresses(v6, 6), ...addresses(v4, 4)]
    if (found.length > 0) return found
    throw v4.status === 'rejected' ? v4.reason : notFound(hostname)
  }
}

function addresses(answer: PromiseSettledResult<string[]>, family: 4 | 6): LookupAddress[] {
  if (answer.status === 'rejected') return []
  return answer.value.map((address) => ({ address, family }))
}

function notFound(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${hostname} has no address`), { code: 'ENOTFOUND' })
}

/**
 * Returns why no file can be opened now, if none can. The system's resolver says "no such name" and
 * a DNS client "refused" where in truth they could not open a file or a socket.
 */
async function missingDescriptor(): Promise<unknown> {
  try {
    await using _ = await open(devNull)
    return undefined
  } catch (error) {
    return exhaustionOf(error) === undefined ? undefined : error
  }
}
