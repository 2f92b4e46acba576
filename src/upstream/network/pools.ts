// What outlives a configuration on the network's side: pools of connections, by everything that
// goes into making them, the files behind TLS, and which networks our connections have led to.
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
  /** By origin. */
  readonly networks = new LRUCache<string, AddressClass>({ max: MAX_NETWORKS })
  readonly #tls = new Map<string, TlsFiles>()
  readonly #pools = new LRUCache<string, Kept<ConnectionKey>>({
    max: MAX_POOLS,
    // What is running on it goes on to its end.
    dispose: ({ pool }) => void pool.close().catch(() => undefined),
  })

  pool(poolKey: string, create: () => Kept<ConnectionKey>): Pool {
    const kept = this.#pools.get(poolKey) ?? create()
    this.#pools.set(poolKey, kept)
    return kept.pool
  }

  /** Equal options have the same files, and what was last good of them. */
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

  /** Looks at every file again; those of other options than these are forgotten. */
  recheck(used: readonly (TlsOptions | undefined)[]): void {
    const ids = new Set(used.map(settingsId))
    for (const [id, files] of this.#tls) {
      if (ids.has(id)) files.recheck()
      else this.#tls.delete(id)
    }
  }

  /** Breaks off what is running. */
  async close(): Promise<void> {
    const pools = [...this.#pools.values()]
    await Promise.all(pools.map(({ pool }) => pool.destroy()))
    this.#pools.clear()
  }
}
