// The hash of a file that fills in any order, up to its first gap. Bytes that come in order are hashed
// from memory; where the prefix grew by joining what came earlier, it is read from the file behind.

import type { FileHandle } from 'node:fs/promises'
import type { Intervals } from '../../http/intervals.ts'
import { createDigester } from '../../oci/digest.ts'
import type { Algorithm, Digest, Digester } from '../../oci/digest.ts'
import { readFully } from '../disk/file-io.ts'
import { returnSlice, takeSlice } from '../disk/slices.ts'

export class PrefixHash {
  readonly #file: FileHandle
  readonly #have: Intervals
  readonly #digester: Digester
  /** Bytes from 0 that #digester has seen: never more than the file holds. */
  #hashed = 0
  /** The reading behind, if it runs. Never rejects. */
  #reading: Promise<void> | undefined
  #stopped = false

  /** `have`: what the file holds, live. It only grows, and what is there never changes. */
  constructor(algorithm: Algorithm, file: FileHandle, have: Intervals) {
    this.#digester = createDigester(algorithm)
    this.#file = file
    this.#have = have
  }

  get hashed(): number {
    return this.#hashed
  }

  /** These bytes are in the file now, from byte `start`, and still in memory. */
  written(start: number, chunks: readonly Uint8Array[]): void {
    if (this.#reading === undefined && start === this.#hashed) {
      for (const chunk of chunks) this.#update(chunk)
    }
    this.readBehind()
  }

  /** Reads what the prefix is ahead, unless that goes on already. A failure is left to `digestOf`. */
  readBehind(): void {
    if (this.#stopped || this.#reading !== undefined) return
    if (this.#have.endFrom(0) === this.#hashed) return
    this.#reading = this.#readOn(() => (this.#stopped ? 0 : this.#have.endFrom(0)))
      .catch(() => void (this.#stopped = true)) // one try: who asks for the digest hears why
      .finally(() => (this.#reading = undefined))
  }

  /** The digest of the first `size` bytes, which are there. Throws where they cannot be read, or on `mayGoOn`. */
  async digestOf(size: number, mayGoOn: () => void): Promise<Digest> {
    await this.#reading
    await this.#readOn(() => {
      mayGoOn()
      return size
    })
    return this.#digester.digest()
  }

  /** The digester itself when it has seen the whole prefix: nothing may be written or asked any more. */
  async prefixDigest(mayGoOn: () => void): Promise<{ digester: Digester; at: number }> {
    await this.stop()
    await this.#readOn(() => {
      mayGoOn()
      return this.#have.endFrom(0)
    })
    return { digester: this.#digester, at: this.#hashed }
  }

  /** Nothing is read behind any more; resolves when the last read has ended. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.#reading
  }

  async #readOn(goal: () => number): Promise<void> {
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
