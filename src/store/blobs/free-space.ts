// How much can still be written. The file system is asked at most once a second.

import { statfs } from 'node:fs/promises'
import type { StorageDriver } from '../driver/driver.ts'

const TTL_MS = 1000

export class FreeSpace {
  readonly #driver: StorageDriver
  readonly #ingestDirectory: string
  #known: { readonly atMs: number; readonly bytes: Promise<number> } | undefined

  constructor(driver: StorageDriver, ingestDirectory: string) {
    this.#driver = driver
    this.#ingestDirectory = ingestDirectory
  }

  /** Returns the free bytes, at most a second out of date. Throws what the file system throws. */
  async bytes(): Promise<number> {
    const now = Date.now()
    if (this.#known === undefined || Math.abs(now - this.#known.atMs) >= TTL_MS) {
      const bytes = this.#ask()
      bytes.catch(() => (this.#known = undefined))
      this.#known = { atMs: now, bytes }
    }
    return await this.#known.bytes
  }

  /**
   * A blob needs room twice: as a local file while it arrives, and in the driver once it is
   * committed.
   */
  async #ask(): Promise<number> {
    const [local, { freeBytes }] = await Promise.all([
      statfs(this.#ingestDirectory),
      this.#driver.space(),
    ])
    return Math.min(local.bavail * local.bsize, freeBytes)
  }
}
