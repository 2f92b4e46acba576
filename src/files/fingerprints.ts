// Fingerprints of files: equal for equal content. A file is hashed again only if stat says that it may
// have changed, so that looking at hundreds of secrets every few seconds costs next to nothing.
import { createHash } from 'node:crypto'
import { open, stat } from 'node:fs/promises'
import { signatureOf } from './signature.ts'

/** By path: a hash of the content, or why there is none. */
export type Fingerprints = ReadonlyMap<string, string>

/** The fingerprint of a pipe or a device, which can be read only once. */
export const NOT_REGULAR = 'not a regular file'

/** Bytes that are hashed; of the rest of a file only its length counts. Configuration files are smaller. */
const MAX_HASHED_BYTES = 1024 * 1024
/**
 * A signature is trusted if the file had not been changed for so long when it was hashed: two writes
 * within one tick of the file system's clock have the same times. FAT has the coarsest, with 2 s.
 */
const SETTLED_MS = 2000

interface Known {
  readonly fingerprint: string
  /** Undefined if the file had changed so shortly before that the next change might not show. */
  readonly signature: string | undefined
}

export class FingerprintReader {
  #known = new Map<string, Known>()

  /** Reads the fingerprints of these files, and forgets all others. Never rejects. */
  async read(files: readonly string[]): Promise<Fingerprints> {
    const known = new Map<string, Known>()
    // One after the other: a file system that hangs must not take every thread for files.
    for (const file of files) known.set(file, await this.#look(file))
    this.#known = known
    return new Map([...known].map(([file, { fingerprint }]) => [file, fingerprint]))
  }

  async #look(file: string): Promise<Known> {
    const former = this.#known.get(file)
    try {
      const lookedAt = Date.now()
      // stat comes first: opening a pipe would wait for a writer, and take its content.
      const found = await stat(file)
      if (found.isDirectory()) return { fingerprint: 'EISDIR', signature: undefined }
      if (!found.isFile()) return { fingerprint: NOT_REGULAR, signature: undefined }
      const signature = signatureOf(found)
      if (former?.signature === signature) return former
      const isSettled = found.ctimeMs < lookedAt - SETTLED_MS
      return { fingerprint: await hashOf(file), signature: isSettled ? signature : undefined }
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
      return { fingerprint: code, signature: undefined }
    }
  }
}

/** Returns the files whose fingerprints differ, including those that only one of the two has. */
export function differing(one: Fingerprints, other: Fingerprints): string[] {
  const files = new Set([...one.keys(), ...other.keys()])
  return [...files].filter((file) => one.get(file) !== other.get(file))
}

async function hashOf(file: string): Promise<string> {
  await using handle = await open(file, 'r')
  const hash = createHash('sha256')
  const bytes = Buffer.alloc(64 * 1024)
  let at = 0
  while (at <= MAX_HASHED_BYTES) {
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, at)
    if (bytesRead === 0) return hash.digest('base64url')
    hash.update(bytes.subarray(0, bytesRead))
    at += bytesRead
  }
  return `${hash.digest('base64url')} ${(await handle.stat()).size}`
}
