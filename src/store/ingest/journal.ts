// The sidecar of a partial file: which of its bytes are durable. Replaced as a whole, and believed only
// as a whole.

import { hash } from 'node:crypto'
import { open, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Intervals } from '../../http/intervals.ts'
import type { Digest } from '../../oci/digest.ts'
import { readFully, syncDirectory } from '../disk/file-io.ts'
import { isRecord } from '../disk/json.ts'

/** Of more gaps the later ones are not noted: what lies behind them is fetched again. */
const MOST_INTERVALS = 20_000
const MOST_BYTES = 1024 * 1024

export function journalPath(partial: string): string {
  return `${partial}.json`
}

/**
 * Durable when it resolves: the note, its name and that of the file beside it. What `have` names must be durable
 * before.
 */
export async function writeJournal(
  partial: string,
  digest: Digest,
  have: readonly [number, number][],
): Promise<void> {
  const noted = have.slice(0, MOST_INTERVALS)
  const temporary = `${journalPath(partial)}.new`
  const text = JSON.stringify({ digest, have: noted, sum: sumOf(digest, noted) })
  try {
    await writeFile(temporary, text, { flush: true })
    await rename(temporary, journalPath(partial))
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {}) // the first error says more
    throw error
  }
  await syncDirectory(dirname(partial))
}

/** What the file at `partial` holds of this digest; undefined where that cannot be believed. Throws ENOENT. */
export async function readJournal(partial: string, digest: Digest): Promise<Intervals | undefined> {
  const file = await open(journalPath(partial), 'r')
  try {
    const { size } = await file.stat()
    if (size > MOST_BYTES) return undefined
    const bytes = Buffer.alloc(size)
    await readFully(file, bytes, 0)
    return parseJournal(bytes.toString('utf8'), digest)
  } finally {
    await file.close()
  }
}

/** Where the last interval ends: the file is at least that long. */
export function extentOf(have: Intervals): number {
  return [...have].at(-1)?.end ?? 0
}

export async function removeJournal(partial: string): Promise<void> {
  for (const path of journalPaths(partial)) await rm(path, { force: true })
}

/** Everything that writeJournal may leave. */
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

/** A figure changed by a bad disk is no longer its own. */
function sumOf(digest: Digest, have: unknown): string {
  return hash('sha256', JSON.stringify([digest, have]), 'base64url')
}
