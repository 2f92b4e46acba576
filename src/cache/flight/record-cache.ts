// Small records of the store, held in memory: tags, links and lists of referrers. It is the only
// memory over them: the store itself remembers nothing. Records are written behind the answer, so a
// disk that cannot be written costs only what a restart would have found there.
import { LRUCache } from 'lru-cache'
import type { CacheObserver } from '../observer.ts'
import type { WriteBehind } from './write-behind.ts'

export interface RecordCacheOptions<T> {
  /** What a record is called in reports: "tag" gives "read tag" and "write tag". */
  readonly name: string
  readonly writes: WriteBehind
  readonly observer: Pick<CacheObserver, 'storeError'>
  /** The most records held, or the most weight with `weigh`. */
  readonly capacity: number
  /** Returns what a record counts towards `capacity`: an integer above 0. */
  readonly weigh?: (record: T) => number
}

export class RecordCache<T extends object> {
  readonly #options: RecordCacheOptions<T>
  readonly #memory: LRUCache<string, T>

  constructor(options: RecordCacheOptions<T>) {
    this.#options = options
    const { capacity, weigh } = options
    this.#memory = new LRUCache<string, T>(
      weigh === undefined ? { max: capacity } : { maxSize: capacity, sizeCalculation: weigh },
    )
  }

  /** Returns the record if it is in memory. */
  peek(key: string): T | undefined {
    return this.#memory.get(key)
  }

  /**
   * Returns the record from memory, or else what `read` finds in the store. A record that cannot be
   * read counts as absent; the error is reported.
   */
  async load(key: string, read: () => Promise<T | undefined>): Promise<T | undefined> {
    const known = this.peek(key)
    if (known !== undefined) return known
    const record = await this.#read(read)
    // A record that was put while the disk was read is newer.
    const newer = this.peek(key)
    if (newer !== undefined || record === undefined) return newer
    this.#memory.set(key, record)
    return record
  }

  /** Holds the record; `write` puts it into the store later, unless a newer one comes before. */
  put(key: string, record: T, write?: () => Promise<void>): void {
    const { name, writes } = this.#options
    this.#memory.set(key, record)
    if (write !== undefined) writes.push(`${name} ${key}`, `write ${name}`, write)
  }

  async #read(read: () => Promise<T | undefined>): Promise<T | undefined> {
    const { name, observer } = this.#options
    try {
      return await read()
    } catch (error) {
      observer.storeError(`read ${name}`, error)
      return undefined
    }
  }
}
