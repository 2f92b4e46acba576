// Records when content was last used, for eviction. It writes at most once a minute per key, and no
// response waits for it.

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

  /** Records that the key is used now. The write happens in the background. */
  note(key: string): void {
    if (this.#touched.has(key)) return
    this.#touched.set(key, true)
    this.#driver.touch(key).catch(this.#onError)
  }

  forget(key: string): void {
    this.#touched.delete(key)
  }
}
