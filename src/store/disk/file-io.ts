// Positional reads and writes without short counts, and fsync of directories.

import { mkdir, open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { isAbsent } from './errno.ts'

/**
 * Creates a file that must not exist yet. Creates its directory too if that was removed by hand.
 */
export async function openNew(path: string, flags: 'wx' | 'wx+'): Promise<FileHandle> {
  try {
    return await open(path, flags, 0o644)
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
  await mkdir(dirname(path), { recursive: true })
  return await open(path, flags, 0o644)
}

/**
 * Fills `into` from byte `at`. Returns the bytes read, which are fewer only at the end of the file.
 */
export async function readFully(file: FileHandle, into: Uint8Array, at: number): Promise<number> {
  let done = 0
  while (done < into.length) {
    const { bytesRead } = await file.read(into, done, into.length - done, at + done)
    if (bytesRead === 0) break
    done += bytesRead
  }
  return done
}

/**
 * Writes all of `chunks` from byte `at`. Calls `onWritten` for each part once it is in the file.
 */
export async function writeFully(
  file: FileHandle,
  chunks: readonly Uint8Array[],
  at: number,
  onWritten: (start: number, end: number) => void,
): Promise<void> {
  let rest = chunks
  let position = at
  while (rest.length > 0) {
    const { bytesWritten } = await file.writev([...rest], position)
    if (bytesWritten === 0) throw new Error('the file system wrote 0 bytes and reported no error')
    onWritten(position, position + bytesWritten)
    position += bytesWritten
    rest = skipBytes(rest, bytesWritten)
  }
}

/** Flushes a directory: only then does a new or renamed entry in it survive a power failure. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Returns the bytes from `start` up to `end` of `chunks`, as chunks that are not empty. */
export function bytesBetween(
  chunks: readonly Uint8Array[],
  start: number,
  end: number,
): readonly Uint8Array[] {
  const part: Uint8Array[] = []
  let at = 0
  for (const chunk of chunks) {
    const [from, to] = [Math.max(start - at, 0), Math.min(end - at, chunk.length)]
    if (from < to) part.push(to - from === chunk.length ? chunk : chunk.subarray(from, to))
    at += chunk.length
  }
  return part
}

function skipBytes(chunks: readonly Uint8Array[], count: number): readonly Uint8Array[] {
  return bytesBetween(chunks, count, Infinity)
}
