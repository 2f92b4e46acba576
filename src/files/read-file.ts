// A file that others may replace by anything while we run, read whole.
import { constants, open } from 'node:fs/promises'

const MAX_BYTES = 1024 * 1024

/**
 * Rejects where it is longer, or no regular file: a pipe would keep a thread waiting for who writes
 * to it, and gives what it holds but once.
 */
export async function readWhole(path: string, maxBytes = MAX_BYTES): Promise<Buffer> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  if (!(await file.stat()).isFile()) throw new Error(`${path} is no regular file`)
  // Not by the size that is told: it may be 0 (/proc), or grow.
  const bytes = Buffer.alloc(maxBytes + 1)
  let length = 0
  for (;;) {
    const { bytesRead } = await file.read(bytes, length, bytes.length - length, null)
    length += bytesRead
    if (length > maxBytes) throw new Error(`${path} is longer than ${maxBytes} bytes`)
    if (bytesRead === 0) return Buffer.from(bytes.subarray(0, length))
  }
}
