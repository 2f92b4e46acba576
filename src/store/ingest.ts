// One local file that fills, in any order, until it is verified and committed. It belongs to one
// process and one download; who fetches and who reads is cache/'s business.

import { randomUUID } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { Intervals } from '../http/intervals.ts'
import { algorithmOf, createDigester } from '../oci/digest.ts'
import type { Digest, Digester } from '../oci/digest.ts'
import { ContentError } from './content-error.ts'
import { openNew, readFully, writeFully } from './file-io.ts'

export interface Ingest {
  readonly digest: Digest
  /**
   * Writes at byte `at`; `bytes` must not change until it resolves. Afterwards they are readable. Bytes that
   * extend the hashed prefix are hashed during the call itself, so calls in order cost no second read.
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

/** A write on its way to the file. */
interface Writing {
  readonly start: number
  readonly end: number
  readonly ended: Promise<void>
}

// 1 MiB is hashed in about 1 ms with SHA extensions and 5 ms without: other requests get their turn.
const VERIFY_SLICE = 1024 * 1024

export class LocalIngest implements Ingest {
  readonly digest: Digest
  readonly #file: FileHandle
  readonly #path: string
  readonly #adopt: LocalIngestOptions['adopt']
  readonly #have = new Intervals()
  readonly #writes = new Set<Writing>()
  #digester: Digester
  /** Bytes from 0 that #digester has seen; they may still be on their way to the file. */
  #hashed = 0
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
    this.#digester = createDigester(algorithmOf(options.digest))
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
    this.#checkWritable()
    // Node takes such a position to mean "where the file pointer is".
    if (!Number.isSafeInteger(at) || at < 0) throw new RangeError(`not a position: ${at}`)
    const chunks = (bytes instanceof Uint8Array ? [bytes] : bytes).filter((c) => c.length > 0)
    if (chunks.length === 0) return
    const writing = this.#begin(at, chunks)
    try {
      await writing.ended
    } catch (error) {
      this.#forgetHash() // it has seen bytes that the file may not hold
      throw error
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

  #begin(at: number, chunks: readonly Uint8Array[]): Writing {
    const end = chunks.reduce((sum, chunk) => sum + chunk.length, at)
    this.#hash(at, end, chunks)
    const ended = writeFully(this.#file, chunks, at, (from, to) => this.#have.add(from, to))
    const writing = { start: at, end, ended }
    this.#writes.add(writing)
    return writing
  }

  #hash(start: number, end: number, chunks: readonly Uint8Array[]): void {
    if (start < this.#hashed) this.#forgetHash() // written over: what was hashed is not what is kept
    if (start !== this.#hashed) return
    // Of two writes to one place that run at once nobody knows which one the file ends up with.
    if ([...this.#writes].some((other) => other.start < end && start < other.end)) return
    for (const chunk of chunks) this.#digester.update(chunk)
    this.#hashed = end
  }

  /** `verify` starts from byte 0 of the file again. */
  #forgetHash(): void {
    this.#digester = createDigester(algorithmOf(this.digest))
    this.#hashed = 0
  }

  async #verify(expected?: number): Promise<void> {
    this.#checkOpen()
    await this.#writesEnded()
    const size = this.#contiguousSize(expected)
    if (this.#verifiedSize === size) return
    await this.#hashRest(size)
    const actual = this.#digester.digest()
    this.#forgetHash() // it is spent
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

  async #hashRest(size: number): Promise<void> {
    const slice = Buffer.allocUnsafe(Math.min(VERIFY_SLICE, Math.max(size - this.#hashed, 0)))
    while (this.#hashed < size) {
      this.#checkOpen() // whoever closes does not wait for gigabytes
      const wanted = slice.subarray(0, Math.min(slice.length, size - this.#hashed))
      const count = await readFully(this.#file, wanted, this.#hashed)
      if (count === 0) throw new ContentError('wrong-size', size, this.#hashed)
      this.#digester.update(wanted.subarray(0, count))
      this.#hashed += count
    }
  }

  /** commit, checkpoint and abort one after the other, whatever became of the one before. */
  #inTurn(step: () => Promise<void>): Promise<void> {
    const turn = this.#ending.then(step)
    this.#ending = turn.catch(() => {})
    return turn
  }
}
