// Reads whole files that others may replace with anything while we run.
import { constants, open } from 'node:fs/promises'

const MAX_BYTES = 1024 * 1024

/**
 * Rejects if the file is longer than `maxBytes` or not a regular file: reading a pipe would block a
 * thread until somebody writes to it, and its content can be read only once.
 */
export async function readWhole(path: string, maxBytes = MAX_BYTES): Promise<Buffer> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  if (!(await file.stat()).isFile()) throw new Error(`${path} is not a regular file`)
  // The size that stat reports is not used: it may be 0 (/proc), and the file may grow.
  const bytes = Buffer.alloc(maxBytes + 1)
  let length = 0
  for (;;) {
    const { bytesRead } = await file.read(bytes, length, bytes.length - length, null)
    length += bytesRead
    if (length > maxBytes) throw new Error(`${path} is longer than ${maxBytes} bytes`)
    if (bytesRead === 0) return Buffer.from(bytes.subarray(0, length))
  }
}
