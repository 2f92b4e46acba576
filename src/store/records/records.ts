// Small JSON records by key, on which links, tags and referrers are built. Nothing is held in
// memory here: the cache does that (cache/flight/record-cache.ts). A put compares with what is on
// the disk and skips writes that would change too little.

import type { Durability, StorageDriver, StoreObserver } from '../driver/driver.ts'
import { parseJson } from '../disk/json.ts'
import { Turns } from '../disk/turns.ts'

export interface RecordsOptions<T extends object> {
  readonly driver: StorageDriver
  readonly observer?: StoreObserver | undefined
  /**
   * Returns undefined if the value is not such a record: its file is removed and counts as absent.
   */
  readonly parse: (value: unknown) => T | undefined
  /** Returns when the record was last confirmed, in milliseconds since the epoch. */
  readonly timeOf: (record: T) => number
  /** Returns the record without that time: a change of anything else is always written. */
  readonly essence: (record: T) => unknown
  /** The durability of a new or changed record. */
  readonly durability: Durability
}

/**
 * How often a record is written if only its time has changed. A crash loses at most this much,
 * which costs one upstream request; writing each time would cost a write per response.
 */
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

  /**
   * Returns the record on the disk, or undefined if it cannot be read: then it is written again.
   */
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

  /**
   * Removes the damaged record. If a put has replaced it meanwhile, returns the new one instead.
   */
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
