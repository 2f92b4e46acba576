// The one face of bytes that can be read: held, arriving, later passing through or remote.
// The sender, Range and multipart are written once, against this.
import type { ByteRange } from '../http/range.ts'
import type { Digest } from '../oci/digest.ts'

/**
 * One reader's view of one blob. It belongs to one response and is closed by it.
 *
 * - `size`: bytes of the whole blob; undefined while nobody has said it.
 * - `isSizeClaimed`: only a manifest has said it so far, and that may be wrong.
 * - `plan(ranges)`: says what the response will carry, so that it is fetched; undefined means everything.
 *   What runs from 0 to the end is held back until verified (design: the hold-back rule). It may be
 *   said again until `promise`.
 * - `promise()`: the head goes out with this size: it changes no more.
 * - `available(at)`: how many bytes can be read from `at` without waiting.
 * - `wait(at, signal)`: resolves when `available(at) > 0` or `at` has turned out to be the end;
 *   rejects when neither can come true any more, or when the signal fires. Before `promise` it also
 *   resolves when the size by which the response was planned was only claimed and is wrong: plan again.
 * - `read(into, at)`: at most `available(at)` bytes; 0 means there is nothing there (yet).
 */
export interface Content {
  readonly digest: Digest
  readonly size: number | undefined
  readonly isSizeClaimed: boolean
  plan(ranges: readonly ByteRange[] | undefined): void
  promise(): void
  available(at: number): number
  wait(at: number, signal: AbortSignal): Promise<void>
  read(into: Uint8Array, at: number): Promise<number>
  close(): Promise<void>
}

/** What held content is read from; the store's object satisfies it. */
export interface ReadableObject {
  readonly size: number
  read(into: Uint8Array, at: number): Promise<number>
  close(): Promise<void>
}

/** A file is shorter now than it was when it was opened. */
export class TruncatedContent extends Error {
  override readonly name = 'TruncatedContent'
}

/** Content that is held and was verified when it was kept: all of it is there at once. */
export class HeldContent implements Content {
  readonly digest: Digest
  readonly size: number
  readonly isSizeClaimed = false
  readonly #object: ReadableObject

  constructor(digest: Digest, object: ReadableObject) {
    this.digest = digest
    this.size = object.size
    this.#object = object
  }

  plan(): void {}

  promise(): void {}

  available(at: number): number {
    return Math.max(0, this.size - at)
  }

  async wait(_at: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
  }

  /** Throws TruncatedContent where the file ends before its size, and what reading throws. */
  async read(into: Uint8Array, at: number): Promise<number> {
    const length = await this.#object.read(into, at)
    if (length === 0 && into.length > 0 && at < this.size) {
      throw new TruncatedContent(`it ends at byte ${at} of ${this.size}`)
    }
    return length
  }

  close(): Promise<void> {
    return this.#object.close()
  }
}
