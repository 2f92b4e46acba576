// Small JSON records by key: what links, tags and referrers have in common. Nothing is remembered here:
// the cache holds in memory what it uses (cache/flight/record-cache.ts), and whether a write is worth
// its while is told from what the disk has.

import type { Durability, StorageDriver, StoreObserver } from '../driver/driver.ts'
import { parseJson } from '../disk/json.ts'
import { Turns } from '../disk/turns.ts'

export interface RecordsOptions<T extends object> {
  readonly driver: StorageDriver
  readonly observer?: StoreObserver | undefined
  /** Returns undefined for a value that is not such a record: the file is removed and counts as absent. */
  readonly parse: (value: unknown) => T | undefined
  /** Returns when the record was last confirmed, in milliseconds. */
  readonly timeOf: (record: T) => number
  /** Returns the record without that time: what must not be lost. */
  readonly essence: (record: T) => unknown
  /** The durability of a new or changed record. */
  readonly durability: Durability
}

/** A crash may lose this much of a time: it costs one upstream request, and saves a write per answer. */
const TIME_WRITTEN_EVERY_MS = 60_000

export class Records<T extends object> {
  readonly #options: RecordsOptions<T>
  readonly #turns = new Turns()

  constructor(options: RecordsOptions<T>) {
    this.#options = options
  }

  async get(key: string): Promise<T | undefined> {
    const held = await this.#options.driver.get(key)
    if (held === undefined) return undefined
    const record = this.#parse(held.bytes)
    return record ?? (await this.#turns.take(key, () => this.#removeDamaged(key)))
  }

  /**
   * Writes the record. One that differs only in its time is written at most once a minute, and with
   * less durability.
   */
  async put(key: string, record: T): Promise<void> {
    const { driver, timeOf, durability } = this.#options
    await this.#turns.take(key, async () => {
      const written = await this.#written(key)
      const confirms = written !== undefined && this.#sameEssence(written, record)
      if (confirms && Math.abs(timeOf(record) - timeOf(written)) < TIME_WRITTEN_EVERY_MS) return
      const bytes = Buffer.from(JSON.stringify(record))
      await driver.put(key, bytes, { durability: confirms ? 'content' : durability })
    })
  }

  async remove(key: string): Promise<void> {
    await this.#turns.take(key, () => this.#options.driver.remove(key))
  }

  /** What the disk has; a record that cannot be read is written again. */
  async #written(key: string): Promise<T | undefined> {
    const held = await this.#options.driver.get(key).catch(() => undefined)
    return held && this.#parse(held.bytes)
  }

  #sameEssence(a: T, b: T): boolean {
    return JSON.stringify(this.#options.essence(a)) === JSON.stringify(this.#options.essence(b))
  }

  #parse(bytes: Buffer): T | undefined {
    return parseJson(bytes, this.#options.parse)
  }

  /** Unless a put has replaced it meanwhile: then that is the answer. */
  async #removeDamaged(key: string): Promise<T | undefined> {
    const { driver, observer } = this.#options
    const held = await driver.get(key)
    const record = held && this.#parse(held.bytes)
    if (held === undefined || record !== undefined) return record
    observer?.storeError('read record', new Error(`${key} was damaged and has been removed`))
    await driver.remove(key)
    return undefined
  }
}
