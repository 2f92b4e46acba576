// Notes when content was last used, for eviction: at most once a minute per key, and never in the way of an answer.

import { LRUCache } from 'lru-cache'
import type { StorageDriver } from '../driver/driver.ts'

const TOUCH_EVERY_MS = 60_000
const KEYS_REMEMBERED = 20_000

export class LastUse {
  readonly #driver: StorageDriver
  readonly #onError: (error: unknown) => void
  readonly #touched = new LRUCache<string, true>({ max: KEYS_REMEMBERED, ttl: TOUCH_EVERY_MS })

  constructor(driver: StorageDriver, onError: (error: unknown) => void) {
    this.#driver = driver
    this.#onError = onError
  }

  /** "Used now"; the touch itself happens in the background. */
  note(key: string): void {
    if (this.#touched.has(key)) return
    this.#touched.set(key, true)
    this.#driver.touch(key).catch(this.#onError)
  }

  forget(key: string): void {
    this.#touched.delete(key)
  }
}
