// How many blobs are kept, and their bytes: counted once in the background, one shard after the other,
// and kept up to date by what is committed and removed. It never delays a start.

import type { StorageDriver } from '../driver/driver.ts'
import { BLOBS_PREFIX } from '../layout.ts'
import { Turns } from '../disk/turns.ts'

export interface UsageCount {
  readonly blobs: number
  readonly bytes: number
  /** False while the first count runs: the figures still grow. */
  readonly complete: boolean
}

/** What a change to one blob did to the count. */
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

  /** Starts the first count if nobody has; resolves when it is complete, was stopped or has failed. */
  count(): Promise<void> {
    this.#started ??= this.#countShards().catch(this.#onError)
    return this.#started
  }

  /** Ends the first count early. */
  stop(): void {
    this.#stopped = true
  }

  current(): UsageCount {
    return { blobs: this.#blobs, bytes: this.#bytes, complete: this.#complete }
  }

  /** Every change goes through here: until its shard is counted, either the count sees it or the result is added. */
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
