// Carries one response's bytes into an ingest: reading goes on while the last batch is being written,
// up to a bound, so that neither the link nor the disk waits for the other.
import type { Ingest } from '../store/ingest.ts'

/** How much may wait for the disk: past it, the upstream waits. */
const WAITING_BYTES = 1024 * 1024

export interface Pouring {
  readonly ingest: Ingest
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
  /** Called after each batch is written and readable. */
  readonly written: () => void
}

/** More bytes came than the blob has. */
export class TooLong extends Error {}

/** Writing to the local file failed: not the upstream's fault. */
export class WriteFailed extends Error {}

/**
 * Ends when all that came, or all up to `end`, is written; how far that is, the ingest knows.
 * @throws what the body throws, after all that came before is written; TooLong; WriteFailed
 */
export async function pour(options: Pouring): Promise<void> {
  const { ingest, body, from, at, limit, end, taken, written } = options
  let batch: Uint8Array[] = []
  let batchBytes = 0
  let writtenTo = at
  let broken: WriteFailed | undefined
  let writing: Promise<void> | undefined

  const writeAll = async () => {
    try {
      while (batch.length > 0) {
        const bytes = batch
        const length = batchBytes
        batch = []
        batchBytes = 0
        await ingest.write(writtenTo, bytes)
        writtenTo += length
        written()
      }
    } catch (cause) {
      broken = new WriteFailed('writing to the cache failed', { cause })
    }
    // In the same turn as the last look at the batch: a chunk that comes now starts a writer anew.
    writing = undefined
  }

  let position = from
  try {
    for await (const chunk of body) {
      const start = Math.max(at, position)
      const fresh = chunk.subarray(start - position, Math.max(0, end() - position))
      position += chunk.length
      if (position > limit) throw new TooLong(`more than the ${limit} bytes announced`)
      if (fresh.length > 0) {
        batch.push(fresh)
        batchBytes += fresh.length
        taken(fresh.length)
        writing ??= writeAll()
        if (batchBytes >= WAITING_BYTES) await writing
        if (broken) throw broken
      }
      if (position >= end()) break
    }
  } finally {
    await writing
  }
  if (broken) throw broken
}
