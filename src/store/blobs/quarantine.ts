// Keeps damaged blobs for an operator to examine: the latest one, whatever its size, and a few
// older ones. Nothing is ever served from here.

import type { Digest } from '../../oci/digest.ts'
import type { StorageDriver, StoredEntry } from '../driver/driver.ts'
import { blobKey, QUARANTINE_PREFIX, quarantineKey } from '../layout.ts'
import { Turns } from '../disk/turns.ts'

/** The most that is kept. The latest blob is kept even if it alone exceeds `bytes`. */
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

  /**
   * Moves a held blob here, or removes it if the disk would have no room to fetch it again. Does
   * nothing if the blob is absent.
   */
  async take(digest: Digest, size: number): Promise<void> {
    const key = quarantineKey(digest)
    await this.#turns.take('', async () => {
      if (!(await this.#driver.move(blobKey(digest), key))) return
      await this.#driver.touch(key) // #trim goes by the time in quarantine, not by the last use
      await this.#trim(key)
      // Without room for a new copy, the blob could not be cached again: every pull of it would
      // bypass the disk, while the damaged file serves nobody.
      const space = await this.#driver.space().catch(() => undefined)
      if (space !== undefined && space.freeBytes < size) await this.#driver.remove(key)
    })
  }

  /** Removes the oldest blobs, but never `latest`, until the rest is within the limits. */
  async #trim(latest: string): Promise<void> {
    const entries: StoredEntry[] = []
    for await (const entry of this.#driver.walk(QUARANTINE_PREFIX)) entries.push(entry)
    let bytes = entries.reduce((sum, entry) => sum + entry.size, 0)
    let count = entries.length
    const others = entries.filter(({ key }) => key !== latest)
    for (const { key, size } of others.toSorted((a, b) => a.usedAtMs - b.usedAtMs)) {
      if (count <= this.#limits.blobs && bytes <= this.#limits.bytes) return
      await this.#driver.remove(key)
      count -= 1
      bytes -= size
    }
  }
}
