// A local file that fills in any order until it is verified and committed. It belongs to one
// download in one process. Fetching and serving its bytes is the business of cache/.

import { randomUUID } from 'node:crypto'
import { open, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { Intervals } from '../../http/intervals.ts'
import { algorithmOf } from '../../oci/digest.ts'
import type { Digest } from '../../oci/digest.ts'
import { ContentError } from './content-error.ts'
import { openNew } from '../disk/file-io.ts'
import { FillingFile } from './filling-file.ts'
import { extentOf, readJournal, removeJournal, writeJournal } from './journal.ts'
import type { PrefixDigest } from './prefix-hash.ts'

export type { PrefixDigest } from './prefix-hash.ts'

/** Reads what is written so far. It can be read until `close`. */
export interface IngestContent {
  readonly digest: Digest
  /**
   * Returns the written intervals: always the same object, updated as writes complete. Do not
   * change it.
   */
  have(): Intervals
  /**
   * Fills `into` from byte `at`, up to the first byte that is not in `have()`. Returns the bytes
   * read.
   */
  read(into: Uint8Array, at: number): Promise<number>
}

/** Writes bytes until all are there and verified. */
export interface IngestWriter {
  /**
   * Writes `bytes` from byte `at`. They must not change until it resolves; then they can be read.
   * Bytes that are already written are never overwritten: a reader may have seen them. Writes in
   * order are hashed from memory; after others, the file is read once more to be hashed.
   */
  write(at: number, bytes: Uint8Array | readonly Uint8Array[]): Promise<void>
  /**
   * Checks the size and the digest, for which it reads what has not been hashed yet. Throws
   * ContentError. After it has succeeded, nothing more can be written.
   */
  verify(size?: number): Promise<void>
  /**
   * Ends writing, for a file that cannot be written any more. Returns the hash of everything up to
   * the first gap. What is written stays readable, but the ingest can no longer be written or
   * verified.
   */
  endWriting(): Promise<PrefixDigest>
}

/** Decides what becomes of the file. */
export interface IngestEnding {
  /**
   * Makes the file the blob: fsync, check of the size, rename, fsync of the directory. Requires
   * `verify`. If a blob of this size is already held and `replace` is not set, only removes the
   * file.
   */
  commit(options?: CommitOptions): Promise<void>
  /**
   * Makes the bytes in `have()` durable and records them for a later process. This flushes the
   * file, so call it only every few seconds or 64 MiB. Does nothing if there are no new bytes, or
   * if the file cannot be suspended.
   */
  checkpoint(): Promise<void>
  /**
   * Closes like `close`, but leaves the bytes in `have()` to the next ingest of the digest. Removes
   * the file if it is empty, was found wrong or aborted, or is not the first open ingest of the
   * digest. Throws what `checkpoint` throws.
   */
  suspend(): Promise<void>
  /**
   * Leaves the bytes in `have()` to an ingest in another process, which may open the file at once.
   * No write may follow; reads go on until `close`. Throws what `checkpoint` throws.
   */
  leave(options?: LeaveOptions): Promise<void>
  /** Unlinks the file; reads go on until `close`. Does nothing after a commit. */
  abort(): Promise<void>
  /** Closes the file. Aborts first unless the ingest was committed, suspended or left. */
  close(): Promise<void>
}

export interface Ingest extends IngestContent, IngestWriter, IngestEnding {}

export interface LeaveOptions {
  /**
   * Whether to make a last checkpoint. False when another server already has the directory: then
   * what the last checkpoint recorded is left. Default: true.
   */
  readonly note?: boolean
}

export interface CommitOptions {
  /** Replaces a held blob of the same size, because it is damaged. */
  readonly replace?: boolean
}

/**
 * Takes over the complete file of `size` bytes, as StorageDriver.adopt does under the digest's key.
 */
export type Adopt = (file: string, size: number, options: CommitOptions) => Promise<void>

export interface LocalIngestOptions {
  readonly directory: string
  readonly digest: Digest
  readonly adopt: Adopt
}

export interface PartialOptions {
  readonly path: string
  readonly digest: Digest
  readonly adopt: Adopt
  /**
   * Called once, when the ingest no longer uses the file. `isSuspended` tells that the file and its
   * journal stay for the next ingest.
   */
  readonly onEnd: (isSuspended: boolean) => void
}

type IngestOptions = Omit<PartialOptions, 'onEnd'> & Partial<Pick<PartialOptions, 'onEnd'>>

export class LocalIngest implements Ingest {
  readonly digest: Digest
  readonly #file: FileHandle
  readonly #path: string
  readonly #adopt: Adopt
  /** Undefined if the file cannot be suspended. */
  #onEnd: PartialOptions['onEnd'] | undefined
  readonly #filling: FillingFile
  /** The bytes that the journal lists, which are durable. */
  #journaledBytes: number
  /**
   * Whether there may be a journal. A failed attempt to write one counts: it may have left a file.
   */
  #hasJournal: boolean
  #verifiedSize: number | undefined
  /**
   * The running verification, if any: writes and other verifications wait for it. Never rejects.
   */
  #verifying: Promise<void> | undefined
  #ending: Promise<void> = Promise.resolve()
  #state: 'open' | 'committed' | 'aborted' | 'suspended' = 'open'
  /** Whether the last verification found another digest. */
  #isWrong = false
  /**
   * The failure of a flush, after which the disk may not have what was written. Remember it: the
   * kernel reports it once, and the next fsync succeeds although the data is lost.
   */
  #flushFailure: { readonly cause: unknown } | undefined
  #isWritingEnded = false
  /** After `leave`, another server may own the directory: no checkpoint may write there. */
  #isLeft = false
  #closing: Promise<void> | undefined

  private constructor(file: FileHandle, options: IngestOptions, have?: Intervals) {
    this.digest = options.digest
    this.#file = file
    this.#path = options.path
    this.#adopt = options.adopt
    this.#onEnd = options.onEnd
    this.#filling = new FillingFile(file, algorithmOf(options.digest), have)
    this.#journaledBytes = this.have().bytes
    this.#hasJournal = this.#journaledBytes > 0
  }

  /** Creates an empty file `<directory>/<uuid>`, which cannot be suspended. */
  static async create({ directory, digest, adopt }: LocalIngestOptions): Promise<LocalIngest> {
    const path = join(directory, randomUUID())
    return new LocalIngest(await openNew(path, 'wx+'), { path, digest, adopt })
  }

  /** Creates an empty file that can be suspended. */
  static async createPartial(options: PartialOptions): Promise<LocalIngest> {
    return new LocalIngest(await openNew(options.path, 'wx+'), options)
  }

  /**
   * Opens a suspended file with the intervals in its journal. Returns undefined if the journal is
   * invalid or the file is too short; throws ENOENT if either is missing.
   */
  static async reopen(options: PartialOptions): Promise<LocalIngest | undefined> {
    const have = await readJournal(options.path, options.digest)
    if (have === undefined) return undefined
    const file = await open(options.path, 'r+')
    try {
      const extent = extentOf(have)
      if ((await file.stat()).size >= extent) {
        await file.truncate(extent) // nothing is known about bytes after the last checkpoint
        return new LocalIngest(file, options, have)
      }
    } catch (error) {
      await file.close()
      throw error
    }
    await file.close()
    return undefined
  }

  have(): Intervals {
    return this.#filling.have
  }

  async write(at: number, bytes: Uint8Array | readonly Uint8Array[]): Promise<void> {
    while (this.#verifying !== undefined) await this.#verifying
    this.#checkOpen()
    // For Node such a position means the current position of the file.
    if (!Number.isSafeInteger(at) || at < 0) throw new RangeError(`not a byte position: ${at}`)
    const chunks = bytes instanceof Uint8Array ? [bytes] : bytes
    const end = chunks.reduce((sum, chunk) => sum + chunk.length, at)
    if (this.#state !== 'aborted' && this.have().has(at, end)) return
    this.#checkWritable()
    await this.#filling.write(at, end, chunks)
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    this.#checkOpen()
    return await this.#filling.read(into, at)
  }

  async verify(size?: number): Promise<void> {
    while (this.#verifying !== undefined) await this.#verifying
    const verifying = this.#verify(size)
    this.#verifying = verifying.catch(() => {}).finally(() => (this.#verifying = undefined))
    await verifying
  }

  async endWriting(): Promise<PrefixDigest> {
    while (this.#verifying !== undefined) await this.#verifying
    this.#checkWritable()
    this.#isWritingEnded = true
    await this.#filling.writesEnded()
    return await this.#filling.prefixDigest(() => this.#checkOpen())
  }

  commit(options: CommitOptions = {}): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state === 'committed') return
      this.#checkUnfinished()
      const size = this.#verifiedSize
      if (size === undefined) throw new Error('an ingest must be verified before it is committed')
      await this.#flush(() => this.#file.sync())
      const actual = (await this.#file.stat()).size
      if (actual !== size) throw new ContentError('wrong-size', size, actual)
      await this.#adopt(this.#path, size, options)
      this.#state = 'committed'
      await this.#removeJournal().catch(() => {}) // the next start removes it
      this.#end()
    })
  }

  checkpoint(): Promise<void> {
    return this.#inTurn(async () => {
      const bytes = this.have().bytes
      if (this.#state !== 'open' || this.#onEnd === undefined || this.#isLeft) return
      if (bytes === this.#journaledBytes || this.#isWrong) return
      const have = this.have().toJSON() // before the flush, which may miss later writes
      await this.#flush(() => this.#file.datasync())
      this.#hasJournal = true
      await writeJournal(this.#path, this.digest, have)
      this.#journaledBytes = bytes
    })
  }

  abort(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state !== 'open') return
      this.#state = 'aborted'
      void this.#filling.stopHashing()
      try {
        await this.#removeJournal() // first: a file without a journal is removed at the next start
      } finally {
        await rm(this.#path, { force: true })
      }
      this.#end()
    })
  }

  async suspend(): Promise<void> {
    this.#closing ??= this.#close(true)
    await this.#closing
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close(false)
    await this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(leave: boolean): Promise<void> {
    await this.#filling.writesEnded()
    await this.#filling.stopHashing()
    try {
      if (leave) await this.leave()
    } finally {
      await this.#release()
    }
  }

  async #release(): Promise<void> {
    try {
      await this.abort()
    } finally {
      try {
        await this.#file.close()
      } finally {
        this.#end()
      }
    }
  }

  /** Leaves what an earlier checkpoint recorded even if the last checkpoint fails. */
  async leave({ note = true }: LeaveOptions = {}): Promise<void> {
    try {
      if (note) await this.checkpoint()
    } finally {
      this.#isLeft = true
      const isUsable =
        this.#journaledBytes > 0 && !this.#isWrong && this.#flushFailure === undefined
      if (this.#state === 'open' && isUsable) {
        this.#state = 'suspended'
        const now = new Date()
        // removePartials goes by the mtime: the file's age begins now, even if nothing was written.
        await this.#file.utimes(now, now).catch(() => {})
      }
    }
  }

  #end(): void {
    this.#onEnd?.(this.#state === 'suspended')
    this.#onEnd = undefined
  }

  async #removeJournal(): Promise<void> {
    if (this.#hasJournal) await removeJournal(this.#path)
  }

  async #flush(sync: () => Promise<void>): Promise<void> {
    if (this.#flushFailure !== undefined) throw this.#flushFailure.cause
    try {
      await sync()
    } catch (cause) {
      this.#flushFailure = { cause }
      throw cause
    }
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new Error('the ingest is closed')
  }

  #checkWriting(): void {
    if (this.#isWritingEnded) throw new Error('writing to the ingest has ended')
  }

  #checkUnfinished(): void {
    if (this.#state !== 'open') throw new Error(`the ingest was ${this.#state}`)
  }

  #checkWritable(): void {
    this.#checkOpen()
    this.#checkWriting()
    this.#checkUnfinished()
    if (this.#verifiedSize !== undefined) throw new Error('the ingest is verified and complete')
  }

  async #verify(expected?: number): Promise<void> {
    this.#checkOpen()
    this.#checkWriting()
    await this.#filling.writesEnded()
    const size = this.#contiguousSize(expected)
    if (this.#verifiedSize === size) return
    // Give up as soon as the ingest is closed: hashing gigabytes takes long.
    const actual = await this.#filling.digestOf(size, () => this.#checkOpen())
    this.#isWrong = actual !== this.digest
    if (this.#isWrong) throw new ContentError('wrong-digest', this.digest, actual)
    this.#verifiedSize = size
  }

  #contiguousSize(expected: number | undefined): number {
    const prefix = this.have().endFrom(0)
    const extent = extentOf(this.have())
    const size = expected ?? extent
    if (prefix !== size) throw new ContentError('wrong-size', size, prefix)
    if (extent !== size) throw new ContentError('wrong-size', size, extent)
    return size
  }

  /** Runs commit, checkpoint and abort one after the other, even if the previous one failed. */
  #inTurn(step: () => Promise<void>): Promise<void> {
    const turn = this.#ending.then(step)
    this.#ending = turn.catch(() => {})
    return turn
  }
}
