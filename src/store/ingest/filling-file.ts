// A file that several writers fill at once and in any order. The first bytes written at an offset
// stay. The file is hashed while it fills. The owner decides when it may be written and what
// becomes of it.

import type { FileHandle } from 'node:fs/promises'
import { Intervals } from '../../http/intervals.ts'
import type { Algorithm, Digest } from '../../oci/digest.ts'
import { bytesBetween, readFully, writeFully } from '../disk/file-io.ts'
import { type PrefixDigest, PrefixHash } from './prefix-hash.ts'

/** A write that is running, or waiting for one that it overlaps. */
interface Writing {
  readonly start: number
  readonly end: number
  readonly ended: Promise<void>
}

export class FillingFile {
  /** The intervals that are written, updated as writes complete. */
  readonly have: Intervals
  readonly #file: FileHandle
  readonly #writes = new Set<Writing>()
  readonly #prefix: PrefixHash

  /** `have` is what the file already holds. The owner closes the descriptor. */
  constructor(file: FileHandle, algorithm: Algorithm, have = new Intervals()) {
    this.have = have
    this.#file = file
    this.#prefix = new PrefixHash(algorithm, file, have)
    this.#prefix.catchUp()
  }

  /** Writes the missing parts of `chunks`, which span the bytes from `start` up to `end`. */
  async write(start: number, end: number, chunks: readonly Uint8Array[]): Promise<void> {
    const writing = { start, end, ended: this.#fillAfterOverlaps(start, end, chunks) }
    this.#writes.add(writing)
    try {
      await writing.ended
    } finally {
      this.#writes.delete(writing)
    }
  }

  /** Fills `into` from byte `at`, up to the first missing byte. Returns the bytes read. */
  async read(into: Uint8Array, at: number): Promise<number> {
    const length = Math.min(into.length, this.have.endFrom(at) - at)
    if (length <= 0) return 0
    return await readFully(this.#file, into.subarray(0, length), at)
  }

  /** Resolves when the running writes have ended, whether they succeeded or failed. */
  async writesEnded(): Promise<void> {
    await Promise.allSettled([...this.#writes].map((writing) => writing.ended))
  }

  /**
   * Returns the digest of the first `size` bytes, which must be written. As PrefixHash.digestOf.
   */
  async digestOf(size: number, checkOpen: () => void): Promise<Digest> {
    return await this.#prefix.digestOf(size, checkOpen)
  }

  /**
   * Returns the hash of everything up to the first gap. No write may follow. As
   * PrefixHash.prefixDigest.
   */
  async prefixDigest(checkOpen: () => void): Promise<PrefixDigest> {
    return await this.#prefix.prefixDigest(checkOpen)
  }

  /** Stops hashing in the background. `digestOf` and `prefixDigest` still work. */
  async stopHashing(): Promise<void> {
    await this.#prefix.stop()
  }

  /**
   * Waits for earlier writes that overlap this one: if one of them fails, this one writes its
   * bytes.
   */
  #fillAfterOverlaps(start: number, end: number, chunks: readonly Uint8Array[]): Promise<void> {
    const overlapping: Promise<void>[] = []
    for (const other of this.#writes) {
      if (other.start < end && start < other.end) overlapping.push(other.ended)
    }
    if (overlapping.length === 0) return this.#fill(start, end, chunks)
    return Promise.allSettled(overlapping).then(() => this.#fill(start, end, chunks))
  }

  async #fill(start: number, end: number, chunks: readonly Uint8Array[]): Promise<void> {
    for (const gap of this.have.missing(start, end)) {
      const bytes = bytesBetween(chunks, gap.start - start, gap.end - start)
      await writeFully(this.#file, bytes, gap.start, (from, to) => this.have.add(from, to))
      this.#prefix.written(gap.start, bytes)
    }
  }
}
