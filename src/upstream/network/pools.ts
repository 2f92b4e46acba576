// What outlives a configuration on the network's side: pools of connections, by everything that
// goes into making them, the files behind TLS, and which networks our connections have led to.
import { LRUCache } from 'lru-cache'
import type { Pool } from 'undici'

import type { AddressClass } from '../address/addresses.ts'
import { settingsId } from './settings-id.ts'
import { TlsFiles } from './tls.ts'
import type { TlsOptions } from './tls.ts'

interface Kept<Question> {
  readonly pool: Pool
  /** What was asked when it was made. */
  readonly question: Question
}

const MAX_POOLS = 256
const MAX_NETWORKS = 4096

export class Connections<Question> {
  /** By origin. */
  readonly networks = new LRUCache<string, AddressClass>({ max: MAX_NETWORKS })
  readonly #tls = new Map<string, TlsFiles>()
  readonly #pools = new LRUCache<string, Kept<Question>>({
    max: MAX_POOLS,
    // What is running on it goes on to its end.
    dispose: ({ pool }) => void pool.close().catch(() => undefined),
  })

  pool(key: string, create: () => Kept<Question>): Pool {
    const kept = this.#pools.get(key) ?? create()
    this.#pools.set(key, kept)
    return kept.pool
  }

  /** Equal options have the same files, and what was last good of them. */
  tlsFor(options: TlsOptions | undefined): TlsFiles {
    const id = settingsId(options)
    const files = this.#tls.get(id) ?? new TlsFiles(options)
    this.#tls.set(id, files)
    return files
  }

  /** Closes every pool that is not the one for its question any more (`keyOf`: undefined: there is none). */
  async closeOthers(keyOf: (question: Question) => Promise<string | undefined>): Promise<void> {
    const kept = [...this.#pools.entries()]
    for (const [key, { question }] of kept) {
      if ((await keyOf(question)) !== key) this.#pools.delete(key)
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
