// Hashes a file that fills in any order, up to its first gap. Bytes that are written in order are
// hashed from memory. When a write closes a gap, the bytes after it are read back from the file in
// the background.

import type { FileHandle } from 'node:fs/promises'
import type { Intervals } from '../../http/intervals.ts'
import { createDigester } from '../../oci/digest.ts'
import type { Algorithm, Digest, Digester } from '../../oci/digest.ts'
import { readFully } from '../disk/file-io.ts'
import { returnSlice, takeSlice } from '../disk/slices.ts'

/** The hash of a file up to its first gap, from which a caller can go on without the file. */
export interface PrefixDigest {
  readonly digester: Digester
  /** The first byte that the digester has not seen. */
  readonly at: number
}

export class PrefixHash {
  readonly #file: FileHandle
  readonly #have: Intervals
  readonly #digester: Digester
  /** How many bytes from 0 #digester has seen: never more than the file holds. */
  #hashed = 0
  /** The background reading, if it is running. Never rejects. */
  #reading: Promise<void> | undefined
  #stopped = false

  /**
   * `have` is what the file holds, updated as it fills. It only grows, and written bytes never
   * change.
   */
  constructor(algorithm: Algorithm, file: FileHandle, have: Intervals) {
    this.#digester = createDigester(algorithm)
    this.#file = file
    this.#have = have
  }

  get hashed(): number {
    return this.#hashed
  }

  /** Hashes bytes that have just been written from byte `start`, if they come next. */
  written(start: number, chunks: readonly Uint8Array[]): void {
    if (this.#reading === undefined && start === this.#hashed) {
      for (const chunk of chunks) this.#update(chunk)
    }
    this.catchUp()
  }

  /**
   * Starts to read and hash the rest of the prefix in the background, unless that is already
   * running. After a failure it stops: `digestOf` reads again and throws.
   */
  catchUp(): void {
    if (this.#stopped || this.#reading !== undefined) return
    if (this.#have.endFrom(0) === this.#hashed) return
    this.#reading = this.#hashUpTo(() => (this.#stopped ? 0 : this.#have.endFrom(0)))
      .catch(() => void (this.#stopped = true))
      .finally(() => (this.#reading = undefined))
  }

  /**
   * Returns the digest of the first `size` bytes, which must be in the file. Throws if they cannot
   * be read, and what `checkOpen` throws, which is called before each slice.
   */
  async digestOf(size: number, checkOpen: () => void): Promise<Digest> {
    await this.#reading
    await this.#hashUpTo(() => {
      checkOpen()
      return size
    })
    return this.#digester.digest()
  }

  /**
   * Returns the digester itself once it has seen the whole prefix. The caller owns it from then on,
   * so nothing may be called here any more. Throws as `digestOf` does.
   */
  async prefixDigest(checkOpen: () => void): Promise<PrefixDigest> {
    await this.stop()
    await this.#hashUpTo(() => {
      checkOpen()
      return this.#have.endFrom(0)
    })
    return { digester: this.#digester, at: this.#hashed }
  }

  /** Stops reading in the background. Resolves when the last read has ended. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#reading
  }

  async #hashUpTo(goal: () => number): Promise<void> {
    if (this.#hashed >= goal()) return
    const slice = takeSlice()
    try {
      for (let end = goal(); this.#hashed < end; end = goal()) {
        const wanted = slice.subarray(0, Math.min(slice.length, end - this.#hashed))
        const count = await readFully(this.#file, wanted, this.#hashed)
        if (count < wanted.length) throw new Error(`the file ends before byte ${end}`)
        this.#update(wanted)
      }
    } finally {
      returnSlice(slice)
    }
  }

  #update(bytes: Uint8Array): void {
    this.#digester.update(bytes)
    this.#hashed += bytes.length
  }
}
