// One reader of a blob that bypasses the cache: from the file as far as that goes, then from the window
// of a read that it follows. Whoever reads the whole blob is given its last 64 KiB only when everything
// that this reader was given has proved to be what the digest names.
import type { Digester } from '../../oci/digest.ts'
import type { ByteRange } from '../../http/range.ts'
import type { Follower, UpstreamRead } from './upstream-read.ts'
import type { WrittenFile } from './written-file.ts'

/** A response, as the bypass knows it. */
export interface BypassClient {
  /** Whether it reads all of the blob, from its first byte to its last. */
  readonly isWhole: boolean
  /** What it has been given so far; empty where that is nothing. */
  readonly given: ByteRange
  /** Where the stretch ends that it reads from `at` on; Infinity: at the end of the blob. */
  stretchEnd(at: number): number
  /** Something changed: bytes may be here, or nothing more will come. */
  wake(): void
  /** It cannot go on, because of this. */
  cut(error: Error): void
}

/** The bypass, as its readers know it. */
export interface ReaderBypass {
  readonly file: WrittenFile
  /** Parts are given to nobody yet. */
  readonly isWithheld: boolean
  /** How far a reader of the whole may be given bytes that are not verified; `front`: of the read it follows. */
  trustedTo(front: number | undefined): number
  /** Whether a reader, where it is, may go on following this read. */
  willBring(read: UpstreamRead, reader: BypassReader): boolean
  /** A reader follows no read that brings what it waits for: it gets one as soon as that is possible. */
  seek(reader: BypassReader): void
  /** A read has lost a follower. */
  unfollowed(read: UpstreamRead): void
  /** A reader has closed. */
  left(reader: BypassReader): void
}

/** Where a reader goes on alone: what has hashed everything that it was given, and the next byte. */
export interface Fork {
  readonly digester: Digester
  readonly at: number
}

export class BypassReader implements Follower {
  readonly client: BypassClient
  readonly #bypass: ReaderBypass
  #position = 0
  #read: UpstreamRead | undefined
  #fork: Fork | undefined

  constructor(bypass: ReaderBypass, client: BypassClient) {
    this.#bypass = bypass
    this.client = client
    this.#position = client.given.end
  }

  get position(): number {
    return this.#position
  }

  get fork(): Fork | undefined {
    return this.#fork
  }

  get hasGiven(): boolean {
    return this.client.given.end > 0
  }

  /** Everything that it was given is what the digest names. */
  get isVerified(): boolean {
    return this.client.isWhole && this.#read?.isVerified === true
  }

  /** How many bytes can be read from `at` on. */
  available(at: number): number {
    if (!this.client.isWhole)
      return this.#bypass.isWithheld ? 0 : Math.max(0, this.#endFrom(at) - at)
    return Math.max(0, Math.min(this.#endFrom(at), this.#trustedTo()) - at)
  }

  /** The client waits for the byte at `at`, which is not available. */
  need(at: number): void {
    if (this.client.isWhole || !this.#bypass.isWithheld) {
      this.#moveTo(at)
      const read = this.#read
      if (read && this.#bypass.willBring(read, this)) return read.wait(this)
      this.leftBehind()
      this.#unfollow(read)
    }
    this.#bypass.seek(this)
  }

  /** Reads what is available. Throws what reading the file throws. */
  async read(into: Uint8Array, at: number): Promise<number> {
    const fileEnd = this.#fileEndFrom(at)
    const count =
      fileEnd > at
        ? await this.#bypass.file.read(into.subarray(0, fileEnd - at), at)
        : (this.#read?.window.read(into, at) ?? 0)
    this.#moveTo(at + count)
    return count
  }

  follow(read: UpstreamRead): void {
    this.#read = read
    read.follow(this)
    if (this.available(this.#position) > 0) this.client.wake()
    else read.wait(this)
  }

  isFollowing(read: UpstreamRead): boolean {
    return this.#read === read
  }

  /** Goes on from there alone, since the file cannot be read again. */
  forkAt(fork: Fork): void {
    this.#fork = fork
  }

  wake(): void {
    this.client.wake()
  }

  leftBehind(): void {
    const read = this.#read
    this.#read = undefined
    const at = this.#position
    if (read === undefined || !this.client.isWhole || !this.hasGiven) return
    const isHashed = at >= read.range.start && at <= read.window.front
    if (isHashed) this.#fork = { digester: read.window.digesterAt(at), at }
  }

  close(): void {
    this.#unfollow(this.#read)
    this.#bypass.left(this)
  }

  #unfollow(read: UpstreamRead | undefined): void {
    this.#read = undefined
    if (read === undefined) return
    read.unfollow(this)
    this.#bypass.unfollowed(read)
  }

  #moveTo(at: number): void {
    const from = this.#position
    this.#position = at
    this.#read?.moved(from, at)
  }

  #endFrom(at: number): number {
    const fileEnd = this.#fileEndFrom(at)
    if (fileEnd > at) return fileEnd
    const window = this.#read?.window
    return window && window.tail <= at ? window.front : at
  }

  // What was hashed with the prefix is the same for everybody; further on it comes through the window.
  #fileEndFrom(at: number): number {
    const { isWhole } = this.client
    if (isWhole && this.#fork) return at
    const { file } = this.#bypass
    return isWhole ? Math.max(at, file.hashedEnd) : file.endFrom(at)
  }

  /** The first byte that may not be given yet. */
  #trustedTo(): number {
    if (this.#read?.isVerified) return Infinity
    return this.#bypass.trustedTo(this.#read?.window.front)
  }
}
