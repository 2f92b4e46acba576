// Reads a configuration file, up to a maximum size, or says why it cannot be read.
import { open } from 'node:fs/promises'
import type { Problem } from './problem.ts'

/** The largest configuration file that is read. */
export const MAX_FILE_BYTES = 1024 * 1024

const WHY: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'there is no such file',
  EACCES: 'permission to read it was denied',
  EISDIR: 'it is a directory; name a file',
}

/** Returns the text of a file, or the problem with it. */
export async function readText(file: string): Promise<string | Problem> {
  try {
    const bytes = await readBounded(file)
    if (bytes.length > MAX_FILE_BYTES) return problem(file, 'it is larger than 1 MiB')
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    return problem(file, readFailure(error))
  }
}

/** Returns the reason why a file could not be read, for messages. */
export function readFailure(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return 'it is not UTF-8 text'
  return WHY[code] ?? (code ? `it cannot be read (${code})` : 'it cannot be read')
}

// Not readFile, which would never return for a pipe or a device without an end.
async function readBounded(file: string): Promise<Buffer> {
  await using handle = await open(file, 'r')
  const bytes = Buffer.alloc(MAX_FILE_BYTES + 1)
  let length = 0
  while (length < bytes.length) {
    const { bytesRead } = await handle.read(bytes, length, bytes.length - length)
    if (bytesRead === 0) break
    length += bytesRead
  }
  return bytes.subarray(0, length)
}

function problem(file: string, message: string): Problem {
  return { severity: 'error', at: file, path: [], message }
}
