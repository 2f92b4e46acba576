// Damaged blobs, kept aside for whoever wants to know what became of them: the latest, whatever its size,
// and a few before it. Nothing is ever served from here.

import type { Digest } from '../../oci/digest.ts'
import type { StorageDriver, StoredEntry } from '../driver/driver.ts'
import { blobKey, QUARANTINE_PREFIX, quarantineKey } from '../layout.ts'
import { Turns } from '../disk/turns.ts'

/** How much is kept aside; the latest blob alone may be more. */
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

  /** Moves a held blob here; where no room is left to fetch it again, it is removed. Absent: done. */
  async take(digest: Digest, size: number): Promise<void> {
    const key = quarantineKey(digest)
    await this.#turns.take('', async () => {
      if (!(await this.#driver.move(blobKey(digest), key))) return
      await this.#driver.touch(key) // its age here counts, not its last use
      await this.#trim(key)
      // Or it would pass through uncached, pull after pull, beside a file that serves nobody.
      const space = await this.#driver.space().catch(() => undefined)
      if (space !== undefined && space.freeBytes < size) await this.#driver.remove(key)
    })
  }

  /** Removes the oldest, never `latest`, until what is here is within the limits. */
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
