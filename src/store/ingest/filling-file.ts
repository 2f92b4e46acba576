// A file whose bytes come in any order, from several writers at once, and stay as they first came. It is
// hashed while it fills. Whether it may still be written, and what becomes of it, its owner knows.

import type { FileHandle } from 'node:fs/promises'
import { Intervals } from '../../http/intervals.ts'
import type { Algorithm, Digest, Digester } from '../../oci/digest.ts'
import { bytesBetween, readFully, writeFully } from '../disk/file-io.ts'
import { PrefixHash } from './prefix-hash.ts'

/** A write on its way to the file, or waiting for one that overlaps it. */
interface Writing {
  readonly start: number
  readonly end: number
  readonly ended: Promise<void>
}

export class FillingFile {
  /** What is written, live. */
  readonly have: Intervals
  readonly #file: FileHandle
  readonly #writes = new Set<Writing>()
  readonly #prefix: PrefixHash

  /** `have`: what the file holds already. The descriptor stays the owner's. */
  constructor(file: FileHandle, algorithm: Algorithm, have = new Intervals()) {
    this.have = have
    this.#file = file
    this.#prefix = new PrefixHash(algorithm, file, have)
    this.#prefix.readBehind()
  }

  /** Writes what is missing of `chunks`, which begin at byte `start` and end before `end`. */
  async write(start: number, end: number, chunks: readonly Uint8Array[]): Promise<void> {
    const writing = { start, end, ended: this.#fillInTurn(start, end, chunks) }
    this.#writes.add(writing)
    try {
      await writing.ended
    } finally {
      this.#writes.delete(writing)
    }
  }

  /** Fewer bytes than asked for in front of a byte that is missing, 0 at one. */
  async read(into: Uint8Array, at: number): Promise<number> {
    const length = Math.min(into.length, this.have.endFrom(at) - at)
    if (length <= 0) return 0
    return await readFully(this.#file, into.subarray(0, length), at)
  }

  /** Every write that has begun has ended, however. */
  async writesEnded(): Promise<void> {
    await Promise.allSettled([...this.#writes].map((writing) => writing.ended))
  }

  /** Of the first `size` bytes, which must be there. Stops with what `mayGoOn` throws. */
  async digestOf(size: number, mayGoOn: () => void): Promise<Digest> {
    return await this.#prefix.digestOf(size, mayGoOn)
  }

  /** Returns the hash of everything up to the first gap, for whoever goes on without the file. No write may follow. */
  async prefixDigest(mayGoOn: () => void): Promise<{ digester: Digester; at: number }> {
    return await this.#prefix.prefixDigest(mayGoOn)
  }

  /** Nothing is read any more to be hashed, unless for `digestOf`. */
  async stopHashing(): Promise<void> {
    await this.#prefix.stop()
  }

  /** Of two that bring the same bytes at once, the later waits: the earlier may fail. */
  #fillInTurn(start: number, end: number, chunks: readonly Uint8Array[]): Promise<void> {
    const rivals: Promise<void>[] = []
    for (const other of this.#writes) {
      if (other.start < end && start < other.end) rivals.push(other.ended)
    }
    if (rivals.length === 0) return this.#fill(start, end, chunks)
    return Promise.allSettled(rivals).then(() => this.#fill(start, end, chunks))
  }

  async #fill(start: number, end: number, chunks: readonly Uint8Array[]): Promise<void> {
    for (const gap of this.have.missing(start, end)) {
      const bytes = bytesBetween(chunks, gap.start - start, gap.end - start)
      await writeFully(this.#file, bytes, gap.start, (from, to) => this.have.add(from, to))
      this.#prefix.written(gap.start, bytes)
    }
  }
}
