// Counts the held blobs and their bytes: once in the background, shard by shard, and from then on
// by what is committed and removed. A start never waits for it.

import type { StorageDriver } from '../driver/driver.ts'
import { BLOBS_PREFIX } from '../layout.ts'
import { Turns } from '../disk/turns.ts'

export interface UsageCount {
  readonly blobs: number
  readonly bytes: number
  /** False until the first count has ended: the figures are still growing. */
  readonly complete: boolean
}

/** How a change to one blob changes the count. */
export interface UsageChange {
  readonly blobs: number
  readonly bytes: number
}

export class Usage {
  readonly #driver: StorageDriver
  readonly #onError: (error: unknown) => void
  readonly #turns = new Turns()
  readonly #counted = new Set<string>()
  #blobs = 0
  #bytes = 0
  #started: Promise<void> | undefined
  #complete = false
  #stopped = false

  constructor(driver: StorageDriver, onError: (error: unknown) => void) {
    this.#driver = driver
    this.#onError = onError
  }

  /**
   * Starts the first count unless it has been started. Resolves when it is complete, stopped or
   * failed.
   */
  count(): Promise<void> {
    this.#started ??= this.#countShards().catch(this.#onError)
    return this.#started
  }

  /** Stops the first count. */
  stop(): void {
    this.#stopped = true
  }

  current(): UsageCount {
    return { blobs: this.#blobs, bytes: this.#bytes, complete: this.#complete }
  }

  /**
   * Runs a change to the blob at `key` and adds its result to the count. Every change must go
   * through here. While its shard is not counted yet, the change and the count take turns, and the
   * count includes it: otherwise it could be counted twice or not at all.
   */
  async during(key: string, change: () => Promise<UsageChange>): Promise<void> {
    const shard = key.slice(0, key.lastIndexOf('/') + 1)
    await this.#turns.take(this.#counted.has(shard) ? key : shard, async () => {
      const result = await change()
      if (this.#counted.has(shard)) this.#add(result)
    })
  }

  async #countShards(): Promise<void> {
    for (const algorithm of ['sha256', 'sha512']) {
      for (let n = 0; n < 256 && !this.#stopped; n++) {
        const shard = `${BLOBS_PREFIX}${algorithm}/${n.toString(16).padStart(2, '0')}/`
        await this.#turns.take(shard, () => this.#countShard(shard))
      }
    }
    this.#complete = !this.#stopped
  }

  async #countShard(shard: string): Promise<void> {
    let [blobs, bytes] = [0, 0]
    for await (const entry of this.#driver.walk(shard)) {
      blobs += 1
      bytes += entry.size
    }
    this.#add({ blobs, bytes })
    this.#counted.add(shard)
  }

  #add(change: UsageChange): void {
    this.#blobs += change.blobs
    this.#bytes += change.bytes
  }
}
