// The journal of a partial file lists which of its bytes are durable. It is a JSON file next to it,
// which is replaced atomically and ignored as a whole if its checksum is wrong.

import { hash } from 'node:crypto'
import { open, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Intervals } from '../../http/intervals.ts'
import type { Digest } from '../../oci/digest.ts'
import { readFully, syncDirectory } from '../disk/file-io.ts'
import { isRecord } from '../disk/json.ts'

/** Intervals after the first 20,000 are not recorded: their bytes are fetched again. */
const MAX_INTERVALS = 20_000
const MAX_BYTES = 1024 * 1024

export function journalPath(partial: string): string {
  return `${partial}.json`
}

/**
 * Writes the journal. When it resolves, the journal and the directory entries of both files are
 * durable. The bytes in `have` must be durable before.
 */
export async function writeJournal(
  partial: string,
  digest: Digest,
  have: readonly [number, number][],
): Promise<void> {
  const recorded = have.slice(0, MAX_INTERVALS)
  const temporary = `${journalPath(partial)}.new`
  const text = JSON.stringify({ digest, have: recorded, sum: sumOf(digest, recorded) })
  try {
    await writeFile(temporary, text, { flush: true })
    await rename(temporary, journalPath(partial))
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {}) // the first error is the cause
    throw error
  }
  await syncDirectory(dirname(partial))
}

/**
 * Returns the durable intervals of the file at `partial`. Returns undefined if the journal is
 * damaged or for another digest; throws ENOENT if there is none.
 */
export async function readJournal(partial: string, digest: Digest): Promise<Intervals | undefined> {
  const file = await open(journalPath(partial), 'r')
  try {
    const { size } = await file.stat()
    if (size > MAX_BYTES) return undefined
    const bytes = Buffer.alloc(size)
    await readFully(file, bytes, 0)
    return parseJournal(bytes.toString('utf8'), digest)
  } finally {
    await file.close()
  }
}

/** Returns the end of the last interval: the file is at least this long. */
export function extentOf(have: Intervals): number {
  return [...have].at(-1)?.end ?? 0
}

export async function removeJournal(partial: string): Promise<void> {
  for (const path of journalPaths(partial)) await rm(path, { force: true })
}

/** Returns the path of every file that writeJournal may leave. */
export function journalPaths(partial: string): readonly string[] {
  return [journalPath(partial), `${journalPath(partial)}.new`]
}

function parseJournal(text: string, digest: Digest): Intervals | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (!isRecord(value) || value.digest !== digest) return undefined
    const have = Intervals.fromJSON(value.have)
    return have.bytes > 0 && value.sum === sumOf(digest, value.have) ? have : undefined
  } catch {
    return undefined
  }
}

/** A checksum, so that no number that a bad disk has changed is believed. */
function sumOf(digest: Digest, have: unknown): string {
  return hash('sha256', JSON.stringify([digest, have]), 'base64url')
}
