// What outlives a configuration: pools of connections, keyed by everything that goes into making
// them, the files behind TLS, and the networks that connections have led to.
import { LRUCache } from 'lru-cache'
import type { Pool } from 'undici'

import type { AddressClass } from '../address/addresses.ts'
import { settingsId } from './settings-id.ts'
import { TlsFiles } from './tls.ts'
import type { TlsOptions } from './tls.ts'

interface Kept<ConnectionKey> {
  readonly pool: Pool
  /** The request that the pool was made for. */
  readonly key: ConnectionKey
}

const MAX_POOLS = 256
const MAX_NETWORKS = 4096

export class Connections<ConnectionKey> {
  /** The network that an origin was last reached in, by origin. */
  readonly networks = new LRUCache<string, AddressClass>({ max: MAX_NETWORKS })
  readonly #tls = new Map<string, TlsFiles>()
  readonly #pools = new LRUCache<string, Kept<ConnectionKey>>({
    max: MAX_POOLS,
    // Requests that are running on it go on to their end.
    dispose: ({ pool }) => void pool.close().catch(() => undefined),
  })

  pool(poolKey: string, create: () => Kept<ConnectionKey>): Pool {
    const kept = this.#pools.get(poolKey) ?? create()
    this.#pools.set(poolKey, kept)
    return kept.pool
  }

  /** Returns the same files for equal options, with their last usable content. */
  tlsFor(options: TlsOptions | undefined): TlsFiles {
    const id = settingsId(options)
    const files = this.#tls.get(id) ?? new TlsFiles(options)
    this.#tls.set(id, files)
    return files
  }

  /**
   * Closes every pool that its key no longer leads to. `poolKeyOf` resolves with undefined if no
   * connection can be made for the key any more.
   */
  async closeOthers(poolKeyOf: (key: ConnectionKey) => Promise<string | undefined>): Promise<void> {
    const kept = [...this.#pools.entries()]
    for (const [poolKey, { key }] of kept) {
      if ((await poolKeyOf(key)) !== poolKey) this.#pools.delete(poolKey)
    }
  }

  /** Reads every file again on its next use. Forgets the files of options that are not in `used`. */
  recheck(used: readonly (TlsOptions | undefined)[]): void {
    const ids = new Set(used.map(settingsId))
    for (const [id, files] of this.#tls) {
      if (ids.has(id)) files.recheck()
      else this.#tls.delete(id)
    }
  }

  /** Breaks off the requests that are running. */
  async close(): Promise<void> {
    const pools = [...this.#pools.values()]
    await Promise.all(pools.map(({ pool }) => pool.destroy()))
    this.#pools.clear()
  }
}
