// A blob that cannot be kept: nothing is written, and its readers are fed from memory.
//
// Readers that keep up share one read of the blob, whose window reaches 16 MiB back (tail-window.ts).
// Whoever falls behind, comes late or reads elsewhere has a direct read: a request of its own with about
// 1 MiB of window, of which there are a few at once. What the file has is read from the file.
//
// Every read that serves a whole response hashes the blob, so that nobody is given the end of a blob that
// is not what its digest names: the shared read from the start, a direct one from where its reader is.
import type { Digest } from '../../oci/digest.ts'
import { ContentError } from '../../store/ingest/content-error.ts'
import { leastFinal, UpstreamError } from '../../upstream/face/failure.ts'
import type { FileLeft } from '../fetch/attempt.ts'
import { corruptReadError, mismatchError } from '../fetch/errors.ts'
import { fetchInOrder, type InOrderFetch } from '../fetch/in-order.ts'
import type { SizeClaims } from '../fetch/size-claims.ts'
import type { SourceQueue } from '../fetch/source-queue.ts'
import type { FileLost } from '../fetch/write-body.ts'
import { type BypassClient, BypassReader, type ReaderBypass } from './bypass-reader.ts'
import type { MemoryBudget } from './memory-budget.ts'
import { BLOCK_BYTES } from './tail-window.ts'
import { MIN_BLOCKS, UpstreamRead, type UpstreamReadOptions } from './upstream-read.ts'
import { WrittenFile } from './written-file.ts'

const MIB = 1024 * 1024
/** How far the shared window reaches back. */
const SHARED_BLOCKS = (16 * MIB) / BLOCK_BYTES
/** Direct reads of one blob at once; who comes later waits for one to end. */
const MAX_DIRECT_READS = 4
/** A reader this little in front of a read follows it rather than asking for itself. */
const NEAR_BYTES = MIB
/** How long a reader that has stopped holds up the others, in milliseconds. */
const PATIENCE_MS = 1000
/** The same where the upstream ignores Range, and reading on later means to fetch everything again. */
const UNRANGED_PATIENCE_MS = 30_000
/** How often reads are looked at for readers that have stopped while somebody waits for a direct read. */
const LOOK_EVERY_MS = 200
/** Bytes that prove wrong are fetched again this often, or once from every source if there are more. */
const MIN_ATTEMPTS = 2
const MAX_ATTEMPTS = 4
const FILE_STEP_BYTES = BLOCK_BYTES

export interface BypassOptions {
  readonly digest: Digest
  readonly queue: SourceQueue
  /** In bytes, if an upstream has announced it already. */
  readonly size: number | undefined
  /** What manifests claim about it. */
  readonly claims: SizeClaims
  readonly file: FileLeft | undefined
  /** Bytes of this digest were wrong before: parts are given to nobody before all of it is verified. */
  readonly suspect: boolean
  readonly memory: MemoryBudget
  /** The most direct reads at once. */
  readonly maxDirectReads: number
  /** How many bytes of a whole body of this size may be given before it is verified. */
  readonly unverifiedEnd: (size: number) => number
  /** A source answers; `size` is the blob's, where it is known by now. */
  readonly opened: (size: number | undefined) => void
  readonly sourceFailed: (error: UpstreamError) => void
  /** `endpoint` gave bytes that are not the digest's. */
  readonly verificationFailed: (endpoint: string) => void
  /** The file cannot be read any more. */
  readonly fileLost: (error: FileLost) => void
  /** What a reader is told that was given some of the whole from a file that cannot be read any more. */
  readonly unreadable: () => Error
  /** Milliseconds, monotonic. */
  readonly now: () => number
}

export class Bypass implements ReaderBypass {
  readonly file: WrittenFile
  readonly #options: BypassOptions
  readonly #readers = new Set<BypassReader>()
  readonly #reads = new Set<UpstreamRead>()
  /** Who waits for a direct read, the longest first. */
  readonly #seeking = new Set<BypassReader>()
  readonly #done = Promise.withResolvers<never>()
  #size: number | undefined
  /** A source has answered, so that the size is known if it will be known before the end. */
  #isOpened: boolean
  #isSuspect: boolean
  #isVerified = false
  #isOver = false
  #hasShared = false
  #mismatches = 0
  #timer: NodeJS.Timeout | undefined

  constructor(options: BypassOptions) {
    this.#options = options
    this.file = new WrittenFile(options.digest, options.file, (file, error) => {
      this.#fileLost(file, error)
    })
    this.#size = options.size
    this.#isOpened = options.size !== undefined
    this.#isSuspect = options.suspect
  }

  get size(): number | undefined {
    return this.#size
  }

  get isSuspect(): boolean {
    return this.#isSuspect
  }

  /** Parts are given to nobody yet. */
  get isWithheld(): boolean {
    return this.#isSuspect && !this.#isVerified
  }

  /** Its beginning is gone, or all of it was read: whoever comes now is better off with a new download. */
  get isPast(): boolean {
    const isRunning = (read: UpstreamRead) => this.#isFromStart(read) && !read.isComplete
    return this.#hasShared && ![...this.#reads].some(isRunning)
  }

  /** The memory that it holds, in bytes. */
  get bytes(): number {
    let bytes = 0
    for (const { heldBytes } of this.#reads) bytes += heldBytes
    return bytes
  }

  /** Ends with the reason of the signal, or with the least final failure when no source is left. */
  async run(signal: AbortSignal): Promise<never> {
    const aborted = () => this.#done.reject(signal.reason)
    signal.addEventListener('abort', aborted, { once: true })
    if (signal.aborted) aborted()
    // Without a size nobody can say what is to be read.
    if (this.#size === undefined) this.#sharedRead().runsAlone = true
    try {
      return await this.#done.promise
    } finally {
      this.#isOver = true
      signal.removeEventListener('abort', aborted)
      clearInterval(this.#timer)
      for (const read of this.#reads) this.#close(read)
    }
  }

  /** A reader more, wherever it is. */
  reader(client: BypassClient): BypassReader {
    const reader = new BypassReader(this, client)
    this.#readers.add(reader)
    return reader
  }

  left(reader: BypassReader): void {
    this.#readers.delete(reader)
    this.#seeking.delete(reader)
  }

  /** How far a reader of the whole may be given bytes that are not verified; `front`: of the read it follows. */
  trustedTo(front = this.file.hashedEnd): number {
    return this.#options.unverifiedEnd(this.#size ?? front)
  }

  /** Whether a reader at its position may go on following this read. */
  willBring(
    { window, range, isComplete }: UpstreamRead,
    { client, position }: BypassReader,
  ): boolean {
    if (window.tail > Math.max(position, range.start)) return false
    if (client.isWhole) return true
    if (position < window.front) return position >= window.tail
    return !isComplete && position >= range.start && isNear(position, window.front, range.end)
  }

  /** A reader follows no read that brings what it waits for: it gets one as soon as that is possible. */
  seek(reader: BypassReader): void {
    if (this.#isOver) return
    const read = [...this.#reads].find((each) => this.#mayFollow(each, reader))
    if (read) return reader.follow(read)
    this.#seeking.add(reader)
    this.#grant()
  }

  /** More sources may be asked. */
  joined(): void {
    this.#grant()
  }

  /** A read has lost a follower. */
  unfollowed(read: UpstreamRead): void {
    if (!read.isFollowed && !read.runsAlone) this.#close(read)
  }

  #isShareable({ client, fork }: BypassReader): boolean {
    return client.isWhole && !fork && ![...this.#reads].some(({ isFromBase }) => isFromBase)
  }

  #mayFollow(read: UpstreamRead, reader: BypassReader): boolean {
    if (!this.willBring(read, reader)) return false
    if (!reader.client.isWhole) return !this.isWithheld
    return !reader.fork && read.isFromBase && read.range.start === this.file.hashedEnd
  }

  /** Whether a reader that was given nothing yet may follow it. */
  #isFromStart({ isFromBase, range, window, isClosed }: UpstreamRead): boolean {
    const { hashedEnd } = this.file
    return !isClosed && isFromBase && range.start === hashedEnd && window.tail <= hashedEnd
  }

  /** Gives those who wait for a read one, as far as there are sources and not too many reads. */
  #grant(): void {
    if (this.#isOver) return
    for (const reader of this.#seeking) {
      if (this.#isExhausted) break
      // Only a claim says that there is anything where it waits: the shared read tells.
      if (!this.#isOpened && !reader.client.isWhole) continue
      const isWithheld = !reader.client.isWhole && this.isWithheld
      const isShared = this.#isShareable(reader)
      // Others may still be served by the shared read, which is not one of these.
      if (!isWithheld && !isShared && this.#running(true) >= this.#maxDirectReads) continue
      this.#seeking.delete(reader)
      if (isWithheld) this.#verifyAlone()
      else reader.follow(isShared ? this.#sharedRead() : this.#directRead(reader))
    }
    this.#watchSeeking()
  }

  #watchSeeking(): void {
    if (this.#seeking.size === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
      return
    }
    this.#timer ??= setInterval(() => this.#closeStopped(), LOOK_EVERY_MS)
    if (this.#isExhausted && this.#running() === 0) this.#giveUp()
  }

  /** Nobody will bring what is sought; others may still read what is here. */
  #giveUp(): void {
    const error = leastFinal(this.#options.queue.errors)
    if (this.#reads.size === 0) return this.#done.reject(error)
    for (const { client } of this.#seeking) client.cut(error)
    this.#seeking.clear()
  }

  get #isExhausted(): boolean {
    const { queue, now } = this.#options
    return queue.msUntilNext(now()) === undefined
  }

  get #maxDirectReads(): number {
    return Math.min(MAX_DIRECT_READS, this.#options.maxDirectReads)
  }

  /** How many reads still fetch. */
  #running(areDirect = false): number {
    let count = 0
    for (const { isDirect, isComplete } of this.#reads) {
      if (!isComplete && (isDirect || !areDirect)) count += 1
    }
    return count
  }

  #closeStopped(): void {
    for (const read of this.#reads) if (read.isDirect && read.isStopped) this.#close(read)
  }

  #sharedRead(): UpstreamRead {
    const shared = [...this.#reads].find((read) => this.#isFromStart(read))
    this.#hasShared = true
    return shared ?? this.#begin(this.#fromBase(SHARED_BLOCKS))
  }

  #directRead(reader: BypassReader): UpstreamRead {
    const { client, position, fork } = reader
    if (client.isWhole && !fork)
      return this.#begin({ ...this.#fromBase(MIN_BLOCKS), isDirect: true })
    const start = fork?.at ?? position
    const end = client.isWhole ? Infinity : client.stretchEnd(position)
    const digester = fork?.digester.copy()
    const direct = { isFromBase: false, isDirect: true, maxBlocks: MIN_BLOCKS }
    return this.#begin({ start, end, digester, ...direct })
  }

  #fromBase(maxBlocks: number): ReadOptions {
    const { file } = this
    const range = { start: file.hashedEnd, end: Infinity, digester: file.digester() }
    return { ...range, isFromBase: true, isDirect: false, maxBlocks }
  }

  #begin(options: ReadOptions): UpstreamRead {
    const { memory, now, queue } = this.#options
    const read: UpstreamRead = new UpstreamRead({
      ...options,
      includesFile: options.digester !== undefined && this.file.left !== undefined,
      memory,
      now,
      patienceMs: () => {
        const source = queue.next(now())
        return source && queue.isUnranged(source) ? UNRANGED_PATIENCE_MS : PATIENCE_MS
      },
      bytes: (each, signal) => this.#bytes(each, signal),
      stopped: () => this.#close(read),
    })
    this.#reads.add(read)
    void this.#run(read)
    return read
  }

  async #run(read: UpstreamRead): Promise<void> {
    try {
      await read.run()
      if (!read.isClosed) this.#completed(read)
    } catch (error) {
      this.#failed(read, error)
    }
    this.#grant()
  }

  /** The bytes of a read in order, from the file where it has them. */
  async *#bytes(read: UpstreamRead, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const { range } = read
    const fetch = this.#fetchFor(read)
    for (let at = range.start; at < Math.min(range.end, this.#size ?? Infinity);) {
      const fileEnd = Math.min(this.file.endFrom(at), range.end)
      if (fileEnd > at) {
        const into = Buffer.allocUnsafe(Math.min(FILE_STEP_BYTES, fileEnd - at))
        const count = await this.file.read(into, at)
        at += count
        if (count > 0) yield into.subarray(0, count)
        continue
      }
      const end = Math.min(range.end, this.file.startFrom(at))
      for await (const chunk of fetchInOrder(fetch, { start: at, end }, signal)) {
        at += chunk.length
        yield chunk
      }
    }
  }

  #fetchFor(read: UpstreamRead): InOrderFetch {
    const { digest, queue, claims, sourceFailed, now } = this.#options
    const size = () => this.#size
    return {
      digest,
      queue,
      claims,
      get size() {
        return size()
      },
      opened: (source, said) => {
        read.sources.add(source)
        this.#opened(said)
      },
      ended: (end) => (this.#size = end),
      failed: sourceFailed,
      now,
    }
  }

  #opened(size: number | undefined): void {
    const isNews = this.#size === undefined && size !== undefined
    this.#size ??= size
    this.#options.opened(this.#size)
    // It began without readers, to learn the size: now it waits for the first of them.
    if (!this.isWithheld) for (const read of this.#reads) read.runsAlone = false
    // A response that was planned by a claim may have to be planned anew.
    if (isNews) for (const reader of this.#readers) reader.wake()
    if (this.#isOpened) return
    this.#isOpened = true
    this.#grant()
  }

  /** Parts wait for the verdict, which takes all of it, whoever reads. */
  #verifyAlone(): void {
    const hashing = [...this.#reads].find((read) => read.isFromBase && !read.isClosed)
    const read = hashing ?? this.#sharedRead()
    read.runsAlone = true
    read.goOn()
  }

  #completed(read: UpstreamRead): void {
    const { window } = read
    this.#options.opened(this.#size)
    if (window.digester === undefined) return this.#ended(read)
    const { digest } = this.#options
    const actual = window.digester.digest()
    if (actual !== digest)
      return this.#corrupt(read, new ContentError('wrong-digest', digest, actual))
    read.isVerified = true
    if (!this.#isVerified) this.#blameWrongSizes()
    this.#isVerified = true
    this.#isSuspect = false
    this.#ended(read)
    for (const reader of this.#readers) reader.wake()
  }

  /** The digest has shown that these sources were wrong, and not the manifests. */
  #blameWrongSizes(): void {
    const { queue, sourceFailed } = this.#options
    for (const error of queue.wrongSizes(this.#size)) sourceFailed(error)
  }

  #ended(read: UpstreamRead): void {
    read.runsAlone = false
    read.wakeAll()
    this.unfollowed(read)
  }

  #failed(read: UpstreamRead, error: unknown): void {
    const { queue, digest } = this.#options
    const { digester, front } = read.window
    // A source says that nothing follows what is here: that is all, or there is too much.
    if (
      error instanceof UpstreamError &&
      this.#size === undefined &&
      queue.hasMetTheEnd &&
      digester
    ) {
      queue.forgetTheEnd()
      const actual = digester.digest()
      if (actual !== digest)
        return this.#corrupt(read, new ContentError('wrong-digest', digest, actual))
      this.#size = front
      read.isComplete = true
      return this.#completed(read)
    }
    if (!(error instanceof UpstreamError)) return this.#done.reject(error)
    // Others may still be fed by requests that began earlier.
    this.#close(read)
    if (this.#reads.size === 0) return this.#done.reject(error)
    for (const reader of this.#readers) reader.wake()
  }

  #followersOf(read: UpstreamRead): BypassReader[] {
    return [...this.#readers].filter((reader) => reader.isFollowing(read))
  }

  /** What a read brought is not what the digest names: who was given some of it is cut. */
  #corrupt(read: UpstreamRead, cause: ContentError): void {
    const { digest, queue, verificationFailed } = this.#options
    const file = this.#isVerified || !read.includesFile ? undefined : this.file.left
    const sources = new Set([...read.sources, ...(file?.sources ?? [])])
    const isResumed = file?.isResumed === true
    const error = mismatchError({ digest, sources, isResumed }, cause)
    this.#mismatches += 1
    this.#isSuspect ||= !this.#isVerified
    if (!isResumed) for (const source of read.sources) queue.corrupt(source, error)
    if (!isResumed && sources.size === 1) verificationFailed(error.endpoint)
    const isLast = this.#mismatches >= Math.min(MAX_ATTEMPTS, Math.max(MIN_ATTEMPTS, queue.length))
    if (isLast && !this.#isVerified) return this.#done.reject(error)
    const hurt = file ? [...this.#readers] : this.#followersOf(read)
    if (file) this.#dropFile()
    this.#close(read)
    const told = corruptReadError(digest, error)
    for (const reader of hurt) {
      if (reader.hasGiven || isLast) reader.client.cut(told)
      else reader.wake()
    }
  }

  #dropFile(): void {
    this.file.drop()
    for (const read of this.#reads) if (read.includesFile) this.#close(read)
  }

  /** What is hashed already goes on; nobody can vouch for who was given some of that, but not all. */
  #fileLost({ prefix }: FileLeft, error: FileLost): void {
    if (this.#isOver) return
    this.#options.fileLost(error)
    const { at, digester } = prefix
    for (const reader of this.#readers) {
      if (!reader.client.isWhole || !reader.hasGiven || reader.position > at) continue
      if (reader.position === at) reader.forkAt({ at, digester: digester.copy() })
      else reader.client.cut(this.#options.unreadable())
    }
    for (const reader of this.#readers) reader.wake()
  }

  #close(read: UpstreamRead): void {
    this.#reads.delete(read)
    read.close()
    this.#grant()
  }
}

type ReadOptions = Pick<
  UpstreamReadOptions,
  'start' | 'end' | 'digester' | 'isFromBase' | 'isDirect' | 'maxBlocks'
>

function isNear(position: number, front: number, end: number): boolean {
  return position - front <= NEAR_BYTES && position < end
}
