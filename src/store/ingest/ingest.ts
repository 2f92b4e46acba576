// One local file that fills, in any order, until it is verified and committed. It belongs to one
// process and one download; who fetches and who reads is cache/'s business.

import { randomUUID } from 'node:crypto'
import { open, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { Intervals } from '../../http/intervals.ts'
import { algorithmOf } from '../../oci/digest.ts'
import type { Digest, Digester } from '../../oci/digest.ts'
import { ContentError } from './content-error.ts'
import { openNew } from '../disk/file-io.ts'
import { FillingFile } from './filling-file.ts'
import { extentOf, readJournal, removeJournal, writeJournal } from './journal.ts'

/** What is written so far; it can be read until `close`. */
export interface IngestContent {
  readonly digest: Digest
  /** The intervals that are written, live: the same object for the ingest's life. Read it, do not change it. */
  have(): Intervals
  /** Reads only bytes that `have()` holds: 0 at a byte that is missing, fewer than asked for in front of one. */
  read(into: Uint8Array, at: number): Promise<number>
}

/** Writing, until every byte is here and right. */
export interface IngestWriter {
  /**
   * Writes at byte `at`; `bytes` must not change until it resolves, and are readable then. What is there
   * already stays as it is, whatever came: a reader may have been given it. Any order is hashed while the
   * rest arrives; calls in order cost no second read.
   */
  write(at: number, bytes: Uint8Array | readonly Uint8Array[]): Promise<void>
  /** Reads and hashes what was not hashed yet. Throws ContentError; afterwards nothing more can be written. */
  verify(size?: number): Promise<void>
  /**
   * Ends writing because the file cannot be written. Returns what has hashed everything up to the first gap.
   * What is there stays readable; it can no longer be written or verified.
   */
  endWriting(): Promise<PrefixDigest>
}

/** What becomes of the file. */
export interface IngestEnding {
  /** After `verify`: fsync, size, digest, rename, fsync of the directory. Already there (without `replace`): done. */
  commit(options?: CommitOptions): Promise<void>
  /**
   * Makes what `have()` holds durable and notes it for a later process. It costs a flush to the disk: call it
   * every few seconds or 64 MiB. Nothing new, or not to be left for later: done at once.
   */
  checkpoint(): Promise<void>
  /**
   * Closes like `close`, but leaves what `have()` holds for the next ingest of the digest. Removes it where it
   * cannot be left: nothing there, found wrong, aborted, another was open. Throws what `checkpoint` throws.
   */
  suspend(): Promise<void>
  /**
   * Leaves what `have()` holds for an ingest in another process, which may begin at once; reads go on until
   * `close`. No write may follow. Throws what `checkpoint` throws.
   */
  leave(options?: LeaveOptions): Promise<void>
  /** Unlinks the file; reads go on until `close`. Does nothing after a commit. */
  abort(): Promise<void>
  /** Releases the descriptor; aborts first unless committed. */
  close(): Promise<void>
}

export interface Ingest extends IngestContent, IngestWriter, IngestEnding {}

/** The hash of a file up to its first gap, for whoever goes on without the file. */
export interface PrefixDigest {
  readonly digester: Digester
  /** The first byte that it has not seen. */
  readonly at: number
}

export interface LeaveOptions {
  /** False: the directory is another server's already, what the last checkpoint noted stands. Default: true. */
  readonly note?: boolean
}

export interface CommitOptions {
  /** Takes the place of a held blob of the same size, which is damaged. */
  readonly replace?: boolean
}

/** Takes the finished file of `size` bytes over: StorageDriver.adopt under the digest's key. */
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
  /** Told once, when the file is nobody's any more; `isLeft`: it and its sidecar stay for later. */
  readonly ended: (isLeft: boolean) => void
}

type IngestOptions = Omit<PartialOptions, 'ended'> & Partial<Pick<PartialOptions, 'ended'>>

export class LocalIngest implements Ingest {
  readonly digest: Digest
  readonly #file: FileHandle
  readonly #path: string
  readonly #adopt: Adopt
  /** Absent where the file is not left for later. */
  #ended: PartialOptions['ended'] | undefined
  readonly #filling: FillingFile
  /** How many of its bytes the sidecar durably has. */
  #noted: number
  /** There may be a sidecar: one whose writing failed half-way counts. */
  #hasJournal: boolean
  #verifiedSize: number | undefined
  /** The verify that runs, if one does: writes and other verifies wait for it. Never rejects. */
  #verifying: Promise<void> | undefined
  #ending: Promise<void> = Promise.resolve()
  #state: 'open' | 'committed' | 'aborted' | 'suspended' = 'open'
  /** The last verify found that the bytes are not the digest's. */
  #isWrong = false
  /** Why the disk may not hold what was written: a system says so once, its next flush succeeds. */
  #lost: { readonly cause: unknown } | undefined
  #isWritingEnded = false
  #closing: Promise<void> | undefined

  private constructor(file: FileHandle, options: IngestOptions, have?: Intervals) {
    this.digest = options.digest
    this.#file = file
    this.#path = options.path
    this.#adopt = options.adopt
    this.#ended = options.ended
    this.#filling = new FillingFile(file, algorithmOf(options.digest), have)
    this.#noted = this.have().bytes
    this.#hasJournal = this.#noted > 0
  }

  /** A new, empty file `<directory>/<uuid>`, which is not left for later. */
  static async create({ directory, digest, adopt }: LocalIngestOptions): Promise<LocalIngest> {
    const path = join(directory, randomUUID())
    return new LocalIngest(await openNew(path, 'wx+'), { path, digest, adopt })
  }

  /** A new, empty file that may be left for later. */
  static async createPartial(options: PartialOptions): Promise<LocalIngest> {
    return new LocalIngest(await openNew(options.path, 'wx+'), options)
  }

  /** A file that was left, with what its sidecar says; undefined where that cannot be believed. Throws ENOENT. */
  static async reopen(options: PartialOptions): Promise<LocalIngest | undefined> {
    const have = await readJournal(options.path, options.digest)
    if (have === undefined) return undefined
    const file = await open(options.path, 'r+')
    try {
      const extent = extentOf(have)
      if ((await file.stat()).size >= extent) {
        await file.truncate(extent) // what came after the last checkpoint may be anything
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
    // Node takes such a position to mean "where the file pointer is".
    if (!Number.isSafeInteger(at) || at < 0) throw new RangeError(`not a position: ${at}`)
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
      this.#checkOnItsWay()
      const size = this.#verifiedSize
      if (size === undefined) throw new Error('an ingest is verified before it is committed')
      await this.#flush(() => this.#file.sync())
      const actual = (await this.#file.stat()).size
      if (actual !== size) throw new ContentError('wrong-size', size, actual)
      await this.#adopt(this.#path, size, options)
      this.#state = 'committed'
      await this.#removeJournal().catch(() => {}) // the blob is kept; the next start finds it
      this.#end()
    })
  }

  checkpoint(): Promise<void> {
    return this.#inTurn(async () => {
      const bytes = this.have().bytes
      if (this.#state !== 'open' || this.#ended === undefined) return
      if (bytes === this.#noted || this.#isWrong) return
      const have = this.have().toJSON() // before the flush: what comes meanwhile may not be in it
      await this.#flush(() => this.#file.datasync())
      this.#hasJournal = true
      await writeJournal(this.#path, this.digest, have)
      this.#noted = bytes
    })
  }

  abort(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#state !== 'open') return
      this.#state = 'aborted'
      void this.#filling.stopHashing()
      try {
        await this.#removeJournal() // first: a file without one is nobody's
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

  /** What an earlier checkpoint noted is left even where a last one fails. */
  async leave({ note = true }: LeaveOptions = {}): Promise<void> {
    try {
      if (note) await this.checkpoint()
    } finally {
      if (this.#state === 'open' && this.#noted > 0 && !this.#isWrong && this.#lost === undefined) {
        this.#state = 'suspended'
        const now = new Date()
        await this.#file.utimes(now, now).catch(() => {}) // its age begins anew, also if nothing came
      }
    }
  }

  #end(): void {
    this.#ended?.(this.#state === 'suspended')
    this.#ended = undefined
  }

  async #removeJournal(): Promise<void> {
    if (this.#hasJournal) await removeJournal(this.#path)
  }

  async #flush(sync: () => Promise<void>): Promise<void> {
    if (this.#lost !== undefined) throw this.#lost.cause
    try {
      await sync()
    } catch (cause) {
      this.#lost = { cause }
      throw cause
    }
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new Error('the ingest is closed')
  }

  #checkWriting(): void {
    if (this.#isWritingEnded) throw new Error('writing to the ingest has ended')
  }

  #checkOnItsWay(): void {
    if (this.#state !== 'open') throw new Error(`the ingest was ${this.#state}`)
  }

  #checkWritable(): void {
    this.#checkOpen()
    this.#checkWriting()
    this.#checkOnItsWay()
    if (this.#verifiedSize !== undefined) throw new Error('the ingest is verified and complete')
  }

  async #verify(expected?: number): Promise<void> {
    this.#checkOpen()
    this.#checkWriting()
    await this.#filling.writesEnded()
    const size = this.#contiguousSize(expected)
    if (this.#verifiedSize === size) return
    // Whoever closes does not wait for gigabytes.
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

  /** commit, checkpoint and abort one after the other, whatever became of the one before. */
  #inTurn(step: () => Promise<void>): Promise<void> {
    const turn = this.#ending.then(step)
    this.#ending = turn.catch(() => {})
    return turn
  }
}
