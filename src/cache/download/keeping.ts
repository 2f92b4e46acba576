// What becomes of a blob on the disk: whether there is room for it, what is durable while it grows, and its
// place in the cache at the end. A disk that fails costs the cache entry, never a reader.
import type { LeaveOptions } from '../../store/ingest/ingest.ts'
import type { Attempt } from '../fetch/attempt.ts'
import { WriteFailed } from '../fetch/write-body.ts'
import type { DownloadOptions } from './options.ts'

/** How often the room is looked at while nobody knows how long the blob is. */
const ROOM_STEP_BYTES = 8 * 1024 * 1024
/** A checkpoint is due after this many more bytes: a crash of a fast download costs no more than that. */
const CHECKPOINT_BYTES = 64 * 1024 * 1024
/** A checkpoint is due this long after the last one, in milliseconds: the same for a slow download. */
const CHECKPOINT_MS = 2000
/** The pause after a checkpoint is at least this many times as long as that took: the disk is slow. */
const PAUSE_FACTOR = 10

/** Nothing was tried: the file system has not so much left. */
export class NoRoom extends WriteFailed {
  readonly code = 'ENOSPC'
  constructor(size: number) {
    super(`the file system has no room for ${size} bytes of a blob, which is not kept`)
  }
}

/** Nothing is wrong: another server gets the directory. */
export class DirectoryYielded extends WriteFailed {
  override readonly message = 'another server has the directory'
}

export class BlobKeeping {
  readonly #options: Pick<DownloadOptions, 'hasRoom' | 'observer'>
  #roomAt = ROOM_STEP_BYTES
  /** How much there was at the last checkpoint. */
  #notedBytes = 0
  #pauseMs = CHECKPOINT_MS
  /** Of the next checkpoint, once more has come than the last one noted. */
  #timer: NodeJS.Timeout | undefined
  #isNoting = false

  constructor(options: Pick<DownloadOptions, 'hasRoom' | 'observer'>) {
    this.#options = options
  }

  /** Throws NoRoom where a blob of `size` bytes will not fit: better no byte on the disk than as many as fit. */
  async checkRoom(attempt: Attempt, size: number): Promise<void> {
    const missing = size - attempt.have.bytes
    if (missing > 0 && (await this.#options.hasRoom?.(missing)) === false) throw new NoRoom(size)
  }

  /** More of it is here; `size` where it is known. Returns a check of the room where one is due. */
  grown(attempt: Attempt, size: number | undefined): Promise<void> | undefined {
    const { bytes } = attempt.have
    if (bytes >= this.#notedBytes + CHECKPOINT_BYTES) void this.#note(attempt)
    else this.#noteLater(attempt)
    if (size !== undefined || bytes < this.#roomAt) return undefined
    // By multiples of a step: what one batch went beyond must not add up.
    this.#roomAt = (Math.floor(bytes / ROOM_STEP_BYTES) + 1) * ROOM_STEP_BYTES
    // It may have no end: it gets no more than there is left for others.
    return this.checkRoom(attempt, 2 * bytes)
  }

  /** Makes what is here durable, and notes it for a later process. Never rejects. */
  async checkpoint(attempt: Attempt): Promise<void> {
    await this.#tried('checkpoint', () => attempt.checkpoint())
  }

  /** Leaves what is here for another process, which may have it at once. Never rejects. */
  async leave(attempt: Attempt, options: LeaveOptions): Promise<void> {
    await this.#tried('checkpoint', () => attempt.leaveFile(options))
  }

  /** Gives a verified blob its place. Returns whether it has it. Never rejects. */
  commit(attempt: Attempt): Promise<boolean> {
    return this.#tried('commit', () => attempt.commit())
  }

  /** Removes what is here, which is wrong. Never rejects. */
  async discard(attempt: Attempt): Promise<void> {
    await this.#tried('abort', () => attempt.abort())
  }

  #noteLater(attempt: Attempt): void {
    if (this.#isNoting) return
    this.#timer ??= setTimeout(() => void this.#note(attempt), this.#pauseMs).unref()
  }

  async #note(attempt: Attempt): Promise<void> {
    if (this.#isNoting) return
    this.#isNoting = true
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#notedBytes = attempt.have.bytes
    const startedAt = performance.now()
    await this.checkpoint(attempt)
    this.#pauseMs = Math.max(CHECKPOINT_MS, PAUSE_FACTOR * (performance.now() - startedAt))
    this.#isNoting = false
    if (attempt.have.bytes > this.#notedBytes) this.#noteLater(attempt)
  }

  async #tried(operation: string, step: () => Promise<void>): Promise<boolean> {
    try {
      await step()
      return true
    } catch (error) {
      this.#options.observer.storeError(operation, error)
      return false
    }
  }
}
