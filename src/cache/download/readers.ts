// Who reads a download. They are woken when something changes, and go on from another attempt when
// theirs was lost or proved to be corrupt.
import type { ByteRange } from '../../http/range.ts'
import { OciError } from '../../oci/errors.ts'
import type { Attempt } from '../fetch/attempt.ts'
import { corruptReadOf } from '../fetch/blame.ts'
import type { DownloadObserver } from './options.ts'
import type { DownloadReader } from './reader.ts'

/** Told to clients. */
export const UNREADABLE = 'the disk of the cache fails: the log of the server says why'

export class DownloadReaders {
  readonly #observer: Pick<DownloadObserver, 'readersChanged' | 'storeError'>
  readonly #readers = new Set<DownloadReader>()

  constructor(observer: Pick<DownloadObserver, 'readersChanged' | 'storeError'>) {
    this.#observer = observer
  }

  get size(): number {
    return this.#readers.size
  }

  /** Somebody reads all of it. */
  get isWholeWanted(): boolean {
    for (const { whole } of this.#readers) if (whole === true) return true
    return false
  }

  /** What is wanted now by those who read a part; who reads everything is served by filling from the front. */
  get wantedParts(): ByteRange[] {
    return [...this.#ahead()].flatMap(([first]) => first ?? [])
  }

  /** The same, and what they will want then. */
  get wantedNext(): ByteRange[] {
    const ahead = [...this.#ahead()]
    return [...ahead.flatMap(([first]) => first ?? []), ...ahead.flatMap((each) => each.slice(1))]
  }

  *#ahead(): Generator<readonly ByteRange[]> {
    for (const reader of this.#readers) if (reader.whole === false) yield reader.wantedNext
  }

  add(reader: DownloadReader): void {
    this.#readers.add(reader)
    this.#observer.readersChanged(1)
  }

  /** @returns whether it was there */
  remove(reader: DownloadReader): boolean {
    const wasHere = this.#readers.delete(reader)
    if (wasHere) this.#observer.readersChanged(-1)
    return wasHere
  }

  wake(): void {
    for (const reader of this.#readers) reader.wake()
  }

  /** Those who read this attempt. */
  of(attempt: Attempt): DownloadReader[] {
    return [...this.#readers].filter((reader) => reader.attempt === attempt)
  }

  /** Those whose attempt cannot be read any more go on from a new one. Throws what closing a file throws. */
  async rescue(attempt: Attempt): Promise<void> {
    const lost = [...this.#readers].filter((reader) => reader.attempt.isLost)
    await Promise.all(lost.map((reader) => this.#rescue(reader, attempt)))
  }

  // Nobody can tell any more whether what was given of a whole is what its digest names.
  async #rescue(reader: DownloadReader, attempt: Attempt): Promise<void> {
    const { start, end } = reader.given
    const isUnproven = reader.whole === true && end > start
    if (isUnproven) reader.cut(new OciError('UNAVAILABLE', UNREADABLE))
    else await reader.moveTo(attempt)
  }

  /** A good attempt is here, of a blob of `size` bytes: those of bad ones go on from it, or are cut. */
  async judge(good: Attempt, size: number | undefined): Promise<void> {
    const behind = [...this.#readers].filter((reader) => reader.attempt !== good)
    await Promise.all(behind.map((reader) => this.#judge(reader, good, size)))
  }

  // It goes on unless it was given a byte that differs.
  async #judge(reader: DownloadReader, good: Attempt, size: number | undefined): Promise<void> {
    const { start, end } = reader.given
    try {
      const isSame = reader.promised(size) && (await good.agrees(reader.attempt, start, end))
      if (isSame) return await reader.moveTo(good)
    } catch (error) {
      this.#observer.storeError('read', error)
    }
    reader.cut(corruptReadOf(reader.attempt, good.digest))
  }
}
