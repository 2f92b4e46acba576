// Damaged blobs, kept aside for whoever wants to know what became of them: a few, the latest. Nothing is
// ever served from here.

import type { Digest } from '../oci/digest.ts'
import type { StorageDriver, StoredEntry } from './driver.ts'
import { blobKey, QUARANTINE_PREFIX, quarantineKey } from './layout.ts'
import { Turns } from './turns.ts'

export interface QuarantineLimits {
  readonly blobs: number
  readonly bytes: number
}

const LIMITS: QuarantineLimits = { blobs: 16, bytes: 1024 ** 3 }

export class Quarantine {
  readonly #driver: StorageDriver
  readonly #limits: QuarantineLimits
  readonly #turns = new Turns()

  constructor(driver: StorageDriver, limits: QuarantineLimits = LIMITS) {
    this.#driver = driver
    this.#limits = limits
  }

  /** Moves a held blob here, or removes it where it is larger than all that may be here. Absent: done. */
  async take(digest: Digest, size: number): Promise<void> {
    if (size > this.#limits.bytes) return await this.#driver.remove(blobKey(digest))
    await this.#turns.take('', async () => {
      if (!(await this.#driver.move(blobKey(digest), quarantineKey(digest)))) return
      await this.#driver.touch(quarantineKey(digest)) // its age here counts, not its last use
      await this.#trim()
    })
  }

  async #trim(): Promise<void> {
    const entries: StoredEntry[] = []
    for await (const entry of this.#driver.walk(QUARANTINE_PREFIX)) entries.push(entry)
    let bytes = entries.reduce((sum, entry) => sum + entry.size, 0)
    let count = entries.length
    for (const { key, size } of entries.toSorted((a, b) => a.usedAtMs - b.usedAtMs)) {
      if (count <= this.#limits.blobs && bytes <= this.#limits.bytes) return
      await this.#driver.remove(key)
      count -= 1
      bytes -= size
    }
  }
}
