// Writes the body of one response into a file: reading goes on while the last batch is being written, up
// to a bound, so that neither the link nor the disk waits for the other.

/** The most bytes that wait for the disk; past it, the upstream waits. */
const MAX_WAITING_BYTES = 1024 * 1024

export interface WriteBodyOptions {
  readonly into: { write(at: number, bytes: readonly Uint8Array[]): Promise<void> }
  readonly body: AsyncIterable<Uint8Array>
  /** Offset in the blob of the body's first byte. */
  readonly from: number
  /** First offset that is wanted: what comes before it was fetched already and is skipped. */
  readonly at: number
  /** The blob may not be longer than this. It may become known while bytes arrive. */
  readonly limit: () => number
  /** The offset to stop at: it may move while bytes arrive. */
  readonly end: () => number
  /** Called with the length of each chunk that is to be written. */
  readonly onChunk: (bytes: number) => void
  /** Called after each batch is written. */
  readonly written: () => void
}

/** More bytes came than the blob has. */
export class TooLong extends Error {}

/** Writing to the local file failed: not the upstream's fault. */
export class WriteFailed extends Error {}

/** What was written cannot be read again. */
export class FileLost extends WriteFailed {}

/**
 * Ends when all that came, or all up to `end`, is written.
 * Throws what the body throws, after all that came before is written; TooLong; WriteFailed; and what one
 * of the callbacks throws.
 */
export async function writeBody(options: WriteBodyOptions): Promise<void> {
  const { into, body, from, at, limit, end, onChunk, written } = options
  let batch: Uint8Array[] = []
  let batchBytes = 0
  let writtenTo = at
  let failure: Error | undefined
  let writing: Promise<void> | undefined

  const writeAll = async () => {
    try {
      while (batch.length > 0) {
        const bytes = batch
        const length = batchBytes
        batch = []
        batchBytes = 0
        await into.write(writtenTo, bytes).catch((cause: unknown) => {
          throw new WriteFailed('writing to the cache failed', { cause })
        })
        writtenTo += length
        written()
      }
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error))
    }
    // Clear this in the same tick, or the next chunk finds no writer.
    writing = undefined
  }

  let position = from
  try {
    for await (const chunk of body) {
      const start = position
      position += chunk.length
      if (position > limit()) throw new TooLong(`more than the ${limit()} bytes announced`)
      // onChunk may move the end on, into the same chunk: the rest of that is wanted then.
      let next = Math.max(at, start)
      for (let stop = end(); next < Math.min(position, stop); stop = end()) {
        const fresh = chunk.subarray(next - start, Math.min(position, stop) - start)
        next += fresh.length
        batch.push(fresh)
        batchBytes += fresh.length
        onChunk(fresh.length)
      }
      if (batch.length > 0) writing ??= writeAll()
      if (batchBytes >= MAX_WAITING_BYTES) await writing
      if (failure) throw failure
      if (position >= end()) break
    }
  } finally {
    await writing
  }
  if (failure) throw failure
}
