// Small JSON records by key, with a bounded memory in front: what links, tags and referrers have in common.
// One server owns the directory, so the memory is never behind the disk, except for times (see `put`).

import { LRUCache } from 'lru-cache'
import type { Durability, StorageDriver, StoreObserver } from '../driver/driver.ts'
import { parseJson } from '../disk/json.ts'
import { Turns } from '../disk/turns.ts'

export interface RecordsOptions<T extends object> {
  readonly driver: StorageDriver
  readonly observer?: StoreObserver | undefined
  /** Undefined where the value is not such a record: it is removed and counts as absent. */
  readonly parse: (value: unknown) => T | undefined
  /** When the record was last confirmed, in milliseconds. */
  readonly timeOf: (record: T) => number
  /** The record without that time: what must not be lost. */
  readonly essence: (record: T) => unknown
  /** Of a new or changed record. */
  readonly durability: Durability
  readonly remembered: number
  /** Counts towards `remembered`; default 1. */
  readonly weigh?: (record: T) => number
}

interface Remembered<T> {
  readonly record: T
  /** The time that the disk holds. */
  readonly writtenTime: number
}

/** A crash may lose this much of a time: it costs one question to the upstream, and saves a write per answer. */
const TIME_WRITTEN_EVERY_MS = 60_000

export class Records<T extends object> {
  readonly #options: RecordsOptions<T>
  readonly #memory: LRUCache<string, Remembered<T>>
  readonly #turns = new Turns()
  #removals = 0

  constructor(options: RecordsOptions<T>) {
    this.#options = options
    const { remembered, weigh } = options
    this.#memory =
      weigh === undefined
        ? new LRUCache({ max: remembered })
        : new LRUCache({ maxSize: remembered, sizeCalculation: ({ record }) => weigh(record) })
  }

  async get(key: string): Promise<T | undefined> {
    const remembered = this.#memory.get(key)
    if (remembered !== undefined) return remembered.record
    const removals = this.#removals
    const held = await this.#options.driver.get(key)
    const newer = this.#memory.get(key) // of a put that ended while the file was read
    if (newer !== undefined) return newer.record
    if (held === undefined) return undefined
    const record = this.#parse(held.bytes)
    if (record === undefined) return await this.#turns.take(key, () => this.#removeDamaged(key))
    if (this.#removals === removals) this.#remember(key, record)
    return record
  }

  /** A record that differs only in its time is written at most once a minute, with less ado. */
  async put(key: string, record: T): Promise<void> {
    const { driver, timeOf, durability } = this.#options
    const held = this.#memory.get(key)
    const confirms = held !== undefined && this.#sameEssence(held.record, record)
    if (confirms && Math.abs(timeOf(record) - held.writtenTime) < TIME_WRITTEN_EVERY_MS) {
      this.#memory.set(key, { record, writtenTime: held.writtenTime })
      return
    }
    await this.#turns.take(key, async () => {
      const bytes = Buffer.from(JSON.stringify(record))
      await driver.put(key, bytes, { durability: confirms ? 'content' : durability })
      this.#remember(key, record)
    })
  }

  async remove(key: string): Promise<void> {
    await this.#turns.take(key, async () => {
      await this.#options.driver.remove(key)
      this.#removals++
      this.#memory.delete(key)
    })
  }

  #remember(key: string, record: T): void {
    this.#memory.set(key, { record, writtenTime: this.#options.timeOf(record) })
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
