// One local file that fills, in any order, until it is verified and committed. It belongs to one
// process and one download; who fetches and who reads is cache/'s business.

import { randomUUID } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { Intervals } from '../http/intervals.ts'
import { algorithmOf } from '../oci/digest.ts'
import type { Digest } from '../oci/digest.ts'
import { ContentError } from './content-error.ts'
import { bytesBetween, openNew, readFully, writeFully } from './file-io.ts'
import { PrefixHash } from './prefix-hash.ts'

export interface Ingest {
  readonly digest: Digest
  /**
   * Writes at byte `at`; `bytes` must not change until it resolves, and are readable then. What is there
   * already stays as it is, whatever came: a reader may have been given it. Any order is hashed while the
   * rest arrives; calls in order cost no second read.
   */
  write(at: number, bytes: Uint8Array | readonly Uint8Array[]): Promise<void>
  /** Only bytes that `have()` holds: 0 at a byte that is missing, fewer than asked for in front of one. */
  read(into: Uint8Array, at: number): Promise<number>
  /** What is written, live: the same object for the ingest's life. Read it, do not change it. */
  have(): Intervals
  /** Reads and hashes what was not hashed yet. Throws ContentError; afterwards nothing more can be written. */
  verify(size?: number): Promise<void>
  /** After `verify`: fsync, size, digest, rename, fsync of the directory. Already there: done. */
  commit(): Promise<void>
  /** What `have()` holds is durable, and noted in a sidecar that another process could follow. */
  checkpoint(): Promise<void>
  /** The file is unlinked; reads go on until `close`. Does nothing after a commit. */
  abort(): Promise<void>
  /** Releases the descriptor; aborts first unless committed. */
  close(): Promise<void>
}

export interface LocalIngestOptions {
  readonly directory: string
  readonly digest: Digest
  /** Takes the finished file of `size` bytes over: StorageDriver.adopt under the digest's key. */
  readonly adopt: (file: string, size: number) => Promise<void>
}

/** A write on its way to the file, or waiting for one that overlaps it. */
interface Writing {
  readonly start: number
  readonly end: number
  readonly ended: Promise<void>
}

export class LocalIngest implements Ingest {
  readonly digest: Digest
  readonly #file: FileHandle
  readonly #path: string
  readonly #adopt: LocalIngestOptions['adopt']
  readonly #have = new Intervals()
  readonly #writes = new Set<Writing>()
  readonly #prefix: PrefixHash
  #verifiedSize: number | undefined
  /** The verify that runs, if one does: writes and other verifies wait for it. Never rejects. */
  #verifying: Promise<void> | undefined
  #ending: Promise<void> = Promise.resolve()
  #state: 'open' | 'committed' | 'aborted' = 'open'
  #closing: Promise<void> | undefined

  private constructor(file: FileHandle, path: string, options: LocalIngestOptions) {
    this.#file = file
    this.#path = path
    this.#adopt = options.adopt
    this.digest = options.digest
    this.#prefix = new PrefixHash(algorithmOf(options.digest), file, this.#have)
  }

  /** A new, empty file `<directory>/<uuid>`. */
  static async create(options: LocalIngestOptions): Promise<LocalIngest> {
    const path = join(options.directory, randomUUID())
    return new LocalIngest(await openNew(path, 'wx+'), path, options)
  }

  have(): Intervals {
    return this.#have
  }

  async write(at: number, bytes: Uint8Array | readonly Uint8Array[]): Promise<void> {
    while (this.#verifying !== undefined) await this.#verifying
    this.#checkOpen()
    // Node takes such a position to mean "where the file pointer is".
    if (!Number.isSafeInteger(at) || at < 0) throw new RangeError(`not a position: ${at}`)
    const chunks = bytes instanceof Uint8Array ? [bytes] : bytes
    const end = chunks.reduce((sum, chunk) => sum + chunk.length, at)
    if (this.#state !== 'aborted' && this.#have.has(at, end)) return
    this.#checkWritable()
    const writing = this.#begin(at, end, chunks)
    try {
      await writing.ended
    } finally {
      this.#writes.delete(writing)
    }
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    this.#checkOpen()
    const length = Math.min(into.length, this.#have.endFrom(at) - at)
    if (length <= 0) return 0
    return await readFully(this.#file, into.subarray(0, length), at)
  }

  async verify(size?: number): Promise<void> {
    while (this.#verifying !== undefined) await this.#verifying
    const verifying = this.#verify(size)
    this.#verifying = verifying.catch(() => {}).finally(() => (this.#verifying = undefined))
    await verifying
  }

  commit(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state === 'committed') return
      if (this.#state === 'aborted') throw new Error('the ingest was aborted')
      const size = this.#verifiedSize
      if (size === undefined) throw new Error('an ingest is verified before it is committed')
      await this.#file.sync()
      const actual = (await this.#file.stat()).size
      if (actual !== size) throw new ContentError('wrong-size', size, actual)
      await this.#adopt(this.#path, size)
      this.#state = 'committed'
      await rm(this.#sidecar, { force: true })
    })
  }

  checkpoint(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state !== 'open') return
      const note = JSON.stringify({ digest: this.digest, have: this.#have }) // before the sync
      await this.#file.datasync()
      const temporary = `${this.#sidecar}.new`
      await writeFile(temporary, note, { flush: true })
      await rename(temporary, this.#sidecar)
    })
  }

  abort(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state !== 'open') return
      this.#state = 'aborted'
      void this.#prefix.stop()
      await rm(this.#path, { force: true })
      await rm(this.#sidecar, { force: true })
      await rm(`${this.#sidecar}.new`, { force: true })
    })
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  get #sidecar(): string {
    return `${this.#path}.json`
  }

  async #close(): Promise<void> {
    await this.#writesEnded()
    await this.#prefix.stop()
    try {
      await this.abort()
    } finally {
      await this.#file.close()
    }
  }

  async #writesEnded(): Promise<void> {
    await Promise.allSettled([...this.#writes].map((writing) => writing.ended))
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new Error('the ingest is closed')
  }

  #checkWritable(): void {
    this.#checkOpen()
    if (this.#state !== 'open') throw new Error(`the ingest was ${this.#state}`)
    if (this.#verifiedSize !== undefined) throw new Error('the ingest is verified and complete')
  }

  #begin(start: number, end: number, chunks: readonly Uint8Array[]): Writing {
    const rivals: Promise<void>[] = []
    for (const other of this.#writes) {
      if (other.start < end && start < other.end) rivals.push(other.ended)
    }
    const fill = () => this.#fill(start, end, chunks)
    const ended = rivals.length === 0 ? fill() : Promise.allSettled(rivals).then(fill)
    const writing = { start, end, ended }
    this.#writes.add(writing)
    return writing
  }

  /** Writes what is missing between start and end. */
  async #fill(start: number, end: number, chunks: readonly Uint8Array[]): Promise<void> {
    for (const gap of this.#have.missing(start, end)) {
      const bytes = bytesBetween(chunks, gap.start - start, gap.end - start)
      await writeFully(this.#file, bytes, gap.start, (from, to) => this.#have.add(from, to))
      this.#prefix.written(gap.start, bytes)
    }
  }

  async #verify(expected?: number): Promise<void> {
    this.#checkOpen()
    await this.#writesEnded()
    const size = this.#contiguousSize(expected)
    if (this.#verifiedSize === size) return
    // Whoever closes does not wait for gigabytes.
    const actual = await this.#prefix.digestOf(size, () => this.#checkOpen())
    if (actual !== this.digest) throw new ContentError('wrong-digest', this.digest, actual)
    this.#verifiedSize = size
  }

  #contiguousSize(expected: number | undefined): number {
    const prefix = this.#have.endFrom(0)
    const extent = [...this.#have].at(-1)?.end ?? 0
    const size = expected ?? extent
    if (prefix !== size) throw new ContentError('wrong-size', size, prefix)
    if (extent !== size) throw new ContentError('wrong-size', size, extent)
    return size
  }

  /** commit, checkpoint and abort one after the other, whatever became of the one before. */
  #inTurn(step: () => Promise<void>): Promise<void> {
    const turn = this.#ending.then(step)
    this.#ending = turn.catch(() => {})
    return turn
  }
}
