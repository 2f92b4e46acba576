// How much can still be written: asked of the file system at most once a second.

import { statfs } from 'node:fs/promises'
import type { StorageDriver } from '../driver/driver.ts'

const HOLDS_MS = 1000

export class FreeSpace {
  readonly #driver: StorageDriver
  readonly #ingestDirectory: string
  #known: { readonly atMs: number; readonly bytes: Promise<number> } | undefined

  constructor(driver: StorageDriver, ingestDirectory: string) {
    this.#driver = driver
    this.#ingestDirectory = ingestDirectory
  }

  /** In bytes, as of a second ago at most. Throws what the file system throws. */
  async bytes(): Promise<number> {
    const now = Date.now()
    if (this.#known === undefined || Math.abs(now - this.#known.atMs) >= HOLDS_MS) {
      const bytes = this.#ask()
      bytes.catch(() => (this.#known = undefined))
      this.#known = { atMs: now, bytes }
    }
    return await this.#known.bytes
  }

  /** All that is kept is a local file first, and then the driver's. */
  async #ask(): Promise<number> {
    const [local, { freeBytes }] = await Promise.all([
      statfs(this.#ingestDirectory),
      this.#driver.space(),
    ])
    return Math.min(local.bavail * local.bsize, freeBytes)
  }
}
