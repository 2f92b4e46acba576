// Carries one response's bytes into an ingest: reading goes on while the last batch is being written,
// up to a bound, so that neither the link nor the disk waits for the other.
import { OtherBytes } from '../bypass/block-hashes.ts'

/** How much may wait for the disk: past it, the upstream waits. */
const WAITING_BYTES = 1024 * 1024

export interface Pouring {
  readonly into: { write(at: number, bytes: readonly Uint8Array[]): Promise<void> }
  readonly body: AsyncIterable<Uint8Array>
  /** Offset in the blob of the body's first byte. */
  readonly from: number
  /** First offset that is wanted: what comes before it was fetched already and is passed over. */
  readonly at: number
  /** The blob may not be longer than this. */
  readonly limit: number
  /** The offset to stop at: it may move while bytes arrive. */
  readonly end: () => number
  /** Called with the bytes of each chunk that is to be written. */
  readonly taken: (bytes: number) => void
  /** Asked before a batch is written at `at`; false: nobody wants it, and it ends. Default: at once. */
  readonly room?: ((at: number) => Promise<boolean> | undefined) | undefined
  /** Called after each batch is written, up to `at`. */
  readonly written: (at: number) => void
}

/** More bytes came than the blob has. */
export class TooLong extends Error {}

/** Writing to the local file failed: not the upstream's fault. */
export class WriteFailed extends Error {}

/** What was written cannot be read again. */
export class FileLost extends WriteFailed {}

/**
 * Ends when all that came, or all up to `end`, is written: true; or false, where nobody wants the rest.
 * @throws what the body throws, after all that came before is written; TooLong; WriteFailed; OtherBytes;
 * what one of the callbacks throws
 */
export async function pour(options: Pouring): Promise<boolean> {
  const { into, body, from, at, limit, end, taken, room, written } = options
  let batch: Uint8Array[] = []
  let batchBytes = 0
  let writtenTo = at
  let broken: Error | undefined
  let isWanted = true
  let writing: Promise<void> | undefined

  const writeAll = async () => {
    try {
      while (batch.length > 0) {
        const bytes = batch
        const length = batchBytes
        batch = []
        batchBytes = 0
        isWanted &&= (await room?.(writtenTo)) ?? true
        if (!isWanted) break
        await into.write(writtenTo, bytes).catch(failWrite)
        writtenTo += length
        written(writtenTo)
      }
    } catch (error) {
      broken = error instanceof Error ? error : new Error(String(error))
    }
    // In the same turn as the last look at the batch: a chunk that comes now starts a writer anew.
    writing = undefined
  }

  let position = from
  try {
    for await (const chunk of body) {
      const start = position
      position += chunk.length
      if (position > limit) throw new TooLong(`more than the ${limit} bytes announced`)
      // What is taken may move the end on, into the same chunk: the rest of that is wanted then.
      let next = Math.max(at, start)
      for (let stop = end(); next < Math.min(position, stop); stop = end()) {
        const fresh = chunk.subarray(next - start, Math.min(position, stop) - start)
        next += fresh.length
        batch.push(fresh)
        batchBytes += fresh.length
        taken(fresh.length)
      }
      if (batch.length > 0) writing ??= writeAll()
      if (batchBytes >= WAITING_BYTES) await writing
      if (broken) throw broken
      if (position >= end() || !isWanted) break
    }
  } finally {
    await writing
  }
  if (broken) throw broken
  return isWanted
}

function failWrite(cause: unknown): never {
  if (cause instanceof OtherBytes || cause instanceof FileLost) throw cause
  throw new WriteFailed('writing to the cache failed', { cause })
}
