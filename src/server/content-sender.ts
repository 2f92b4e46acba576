// Copies a Content to one client, at the client's pace, through recycled buffers. It knows nothing of
// HTTP but a list of literal bytes and ranges, and nothing of where content comes from.
import type { ServerResponse } from 'node:http'
import type { Content } from '../cache/content.ts'
import type { ByteRange } from '../http/range.ts'
import { Outgoing } from './outgoing.ts'
import { BASE_PIECE, LARGEST_PIECE, type PiecePool, type Standing } from './piece-pool.ts'

/** More bytes than the socket buffers of the client and the server usually hold together. */
const PROVEN_BYTES = 16 * 1024 * 1024

/**
 * A piece that the kernel takes within this time counts as drained at once. It is longer than one turn
 * of a busy event loop. A reader that needs longer for 64 KiB is slower than 2.5 MB/s and gets no larger
 * pieces.
 */
const AT_ONCE_MS = 25
/** The most waits and reads in a row that may bring no bytes. */
const MAX_FRUITLESS = 100

/** The content ended early, or stopped giving bytes before its end. */
export class ContentCut extends Error {
  override readonly name = 'ContentCut'
}

/** A part of a body: literal bytes, a range, or the whole content if its size is not known. */
export type Stretch =
  | { readonly literal: Buffer }
  | { readonly range: ByteRange }
  | { readonly everything: true }

export interface SendOptions {
  readonly res: ServerResponse
  readonly content: Content
  readonly body: readonly Stretch[]
  /** Fires when the connection has closed. */
  readonly gone: AbortSignal
}

export class ContentSender {
  readonly #pool: PiecePool
  readonly #stallTimeoutMs: () => number

  /** A client that takes no bytes for `stallTimeoutMs` is disconnected. */
  constructor(pool: PiecePool, stallTimeoutMs: () => number) {
    this.#pool = pool
    this.#stallTimeoutMs = stallTimeoutMs
  }

  /**
   * Sends the body of a response whose head is written, and ends the response. Any failure closes the
   * connection, so that no client takes a part for the whole, and is thrown. `onBytes` is called with the
   * total of body bytes that the kernel has taken, each time it takes some.
   */
  async send(options: SendOptions, onBytes: (bytes: number) => void): Promise<void> {
    const outgoing = new Outgoing(options.res, options.gone, this.#stallTimeoutMs(), onBytes)
    const run = new Run(this.#pool, outgoing, options.content, options.gone)
    try {
      for (const stretch of options.body) await run.send(stretch)
      outgoing.end()
    } catch (error) {
      outgoing.destroy()
      throw error
    }
  }
}

/** The sending of one body. What it learns about the client's pace applies across all stretches. */
class Run {
  readonly #pool: PiecePool
  readonly #outgoing: Outgoing
  readonly #content: Content
  readonly #gone: AbortSignal
  #pieceSize = BASE_PIECE
  #drained = true
  #fruitless = 0

  constructor(pool: PiecePool, outgoing: Outgoing, content: Content, gone: AbortSignal) {
    this.#pool = pool
    this.#outgoing = outgoing
    this.#content = content
    this.#gone = gone
  }

  async send(stretch: Stretch): Promise<void> {
    if ('literal' in stretch) {
      await this.#outgoing.write(stretch.literal)
    } else if ('range' in stretch) {
      await this.#copy(stretch.range.start, () => stretch.range.end)
    } else {
      await this.#copy(0, () => this.#content.size)
    }
  }

  // `end` is called again each time: an unknown size becomes known when the last byte arrives.
  async #copy(start: number, end: () => number | undefined): Promise<void> {
    let at = start
    while (at < (end() ?? Infinity)) {
      const ready = this.#content.available(at)
      if (ready > 0) {
        at += await this.#copyPiece(at, Math.min(ready, (end() ?? Infinity) - at))
      } else {
        await this.#content.wait(at, this.#gone)
        this.#checkWaited(at, end())
      }
    }
  }

  // A wait that brought nothing is repeated: corrupt bytes may have been withdrawn meanwhile. The limit
  // keeps a faulty Content from spinning forever.
  #checkWaited(at: number, end: number | undefined): void {
    if (this.#content.available(at) > 0 || at === end) this.#fruitless = 0
    else this.#fruitless += 1
    if (this.#fruitless > MAX_FRUITLESS || (this.#fruitless > 0 && end === undefined)) {
      throw new ContentCut(`the content ended at byte ${at}, expected ${end ?? 'a known end'}`)
    }
  }

  async #copyPiece(at: number, ready: number): Promise<number> {
    const wanted = Math.min(ready, this.#pieceSize)
    const piece =
      this.#pool.take(wanted, this.#standing) ??
      (await this.#pool.wait(wanted, this.#standing, this.#gone))
    try {
      const room = Math.min(wanted, piece.bytes.length)
      const length = await this.#content.read(piece.bytes.subarray(0, room), at)
      if (length === 0) return this.#nothingRead(at)
      this.#fruitless = 0
      const tookMs = await this.#outgoing.write(piece.bytes.subarray(0, length))
      this.#drained = tookMs <= AT_ONCE_MS
      this.#adapt(length < ready)
      return length
    } finally {
      // Safe after a failed write too: the socket is closed, so the kernel no longer reads the piece.
      this.#pool.release(piece)
    }
  }

  // Available bytes may have been withdrawn because they are corrupt or their file is damaged.
  #nothingRead(at: number): number {
    this.#fruitless += 1
    if (this.#fruitless > MAX_FRUITLESS) {
      throw new ContentCut(`the content gave no bytes at byte ${at}, before its end`)
    }
    return 0
  }

  #adapt(moreIsReady: boolean): void {
    if (!this.#drained) this.#pieceSize = BASE_PIECE
    else if (moreIsReady) this.#pieceSize = Math.min(this.#pieceSize * 4, LARGEST_PIECE)
  }

  get #standing(): Standing {
    if (!this.#drained) return 'slow'
    return this.#outgoing.bytes >= PROVEN_BYTES ? 'fast' : 'new'
  }
}
