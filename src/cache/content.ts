// The interface of the bytes of one response, whether they are held, arriving or bypassing the
// disk. The sender, Range and multipart are written once, against this interface.
import type { ByteRange } from '../http/range.ts'
import type { Digest } from '../oci/digest.ts'

/**
 * One reader's view of one blob. It belongs to one response, which closes it.
 *
 * - `size`: bytes of the whole blob; undefined while it is unknown.
 * - `isSizeClaimed`: only a manifest has stated the size so far, and it may be wrong.
 * - `plan(ranges)`: declares what ranges the response will send, so that they are fetched; undefined
 *   means everything. If that is the whole blob, its end is held back until the digest is verified.
 *   It may be called again until `promise`.
 * - `promise()`: called when the response headers are sent: `size` must not change after it.
 * - `available(at)`: returns how many bytes can be read from `at` without waiting.
 * - `wait(at, signal)`: resolves when `available(at) > 0`, or when `at` has proved to be the end.
 *   Rejects when neither is possible any more, or when the signal fires. Before `promise` it also
 *   resolves when the claimed size that the plan was made for has proved wrong: plan again.
 * - `read(into, at)`: reads at most `available(at)` bytes; 0 means that there is nothing (yet).
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

/** What held content is read from. The store's StoredObject satisfies it. */
export interface ReadableObject {
  readonly size: number
  read(into: Uint8Array, at: number): Promise<number>
  close(): Promise<void>
}

/** A file has become shorter since it was opened. */
export class TruncatedContent extends Error {
  override readonly name = 'TruncatedContent'
}

/** Content on the disk, which was verified before it was kept. All of it is available at once. */
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

  /** Throws TruncatedContent if the file ends early, and what reading throws. */
  async read(into: Uint8Array, at: number): Promise<number> {
    const length = await this.#object.read(into, at)
    if (length === 0 && into.length > 0 && at < this.size) {
      throw new TruncatedContent(`the file ends at byte ${at} of ${this.size}`)
    }
    return length
  }

  close(): Promise<void> {
    return this.#object.close()
  }
}
