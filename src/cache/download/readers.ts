// Who reads a download. They are woken when something changes, and go on from another attempt, or past the
// disk, when their own cannot be read any more or proved to be corrupt.
import type { ByteRange } from '../../http/range.ts'
import { OciError } from '../../oci/errors.ts'
import type { Bypass } from '../bypass/bypass.ts'
import type { Attempt } from '../fetch/attempt.ts'
import { corruptReadError } from '../fetch/errors.ts'
import type { DownloadObserver } from './options.ts'
import type { DownloadReader } from './reader.ts'

/** What a client is told whose bytes cannot be read again. */
export function unreadable(cause?: unknown): OciError {
  const message = 'the disk of the cache fails: the log of the server says why'
  return new OciError('UNAVAILABLE', message, { cause })
}

export class DownloadReaders {
  readonly #observer: Pick<DownloadObserver, 'readersChanged' | 'storeError'>
  readonly #readers = new Set<DownloadReader>()

  constructor(observer: Pick<DownloadObserver, 'readersChanged' | 'storeError'>) {
    this.#observer = observer
  }

  get size(): number {
    return this.#readers.size
  }

  /** Whether somebody reads all of it. */
  get isWholeWanted(): boolean {
    for (const { whole } of this.#readers) if (whole === true) return true
    return false
  }

  /** Whether a reader is given nothing until the digest is verified, which takes all of the blob. */
  get isDisputed(): boolean {
    for (const { isDisputed } of this.#readers) if (isDisputed) return true
    return false
  }

  /** What readers of parts want now; whoever reads everything is served by filling from the front. */
  get wanted(): ByteRange[] {
    return [...this.#upcoming()].flatMap(([first]) => first ?? [])
  }

  /** The same, and what they will want after that. */
  get upcoming(): ByteRange[] {
    const all = [...this.#upcoming()]
    return [...all.flatMap(([first]) => first ?? []), ...all.flatMap((each) => each.slice(1))]
  }

  *#upcoming(): Generator<readonly ByteRange[]> {
    for (const reader of this.#readers) if (reader.whole === false) yield reader.upcoming
  }

  add(reader: DownloadReader): void {
    this.#readers.add(reader)
    this.#observer.readersChanged(1)
  }

  /** Returns whether it was there. */
  remove(reader: DownloadReader): boolean {
    const wasHere = this.#readers.delete(reader)
    if (wasHere) this.#observer.readersChanged(-1)
    return wasHere
  }

  wake(): void {
    for (const reader of this.#readers) reader.wake()
  }

  /** A good attempt is here, of a blob of `size` bytes: readers of bad ones go on from it, or are cut. */
  async judge(good: Attempt, size: number | undefined): Promise<void> {
    const behind = [...this.#readers].filter((reader) => reader.attempt !== good)
    await Promise.all(behind.map((reader) => this.#judge(reader, good, size)))
  }

  /**
   * Nothing is written any more: readers go on past the disk, from `attempt` where its file can still be
   * read. Those are cut that were given bytes that nobody can vouch for now.
   */
  bypass(bypass: Bypass, attempt: Attempt | undefined, isReadable: boolean): void {
    for (const reader of this.#readers) {
      const hasGiven = reader.given.end > 0
      const mismatch = reader.attempt?.mismatch
      if (mismatch && hasGiven) reader.cut(corruptReadError(reader.digest, mismatch))
      else if (reader.attempt === attempt && !isReadable && reader.isWhole && hasGiven)
        reader.cut(unreadable())
      else reader.follow(bypass)
    }
  }

  // It goes on unless it was given a byte that differs.
  async #judge(reader: DownloadReader, good: Attempt, size: number | undefined): Promise<void> {
    const { start, end } = reader.given
    const bad = reader.attempt
    try {
      const isSame = end === 0 || (bad !== undefined && (await good.agrees(bad, start, end)))
      if (reader.promised(size) && isSame) return await reader.moveTo(good)
    } catch (error) {
      this.#observer.storeError('read', error)
    }
    reader.cut(corruptReadError(good.digest, bad?.mismatch))
  }
}
