// Whether files have changed, found by reading them every few seconds: what watches directories sees
// neither Kubernetes' swapped links nor network file systems reliably. A change is told once it has
// stood for one interval, so that nothing half-written is taken for it; after a minute in any case.
import { createHash } from 'node:crypto'
import { open, stat } from 'node:fs/promises'
import { MAX_FILE_BYTES } from './read-text.ts'

/** By path: equal for equal content, or for the same reason why there is none. */
export type Prints = ReadonlyMap<string, string>

/** What a pipe or a device has: it can be read but once. */
export const NO_FILE = 'no file'

export interface FileWatchOptions {
  /** Asked for at each look. */
  readonly files: () => readonly string[]
  readonly everyMs: number
  /** Something is other than what was settled; not called again before it has resolved. */
  readonly onChange: () => Promise<void>
  readonly onError: (error: unknown) => void
}

/** Something may be rewritten without end: after so many looks a change is told though it goes on. */
const MAX_LOOKS = 30

export class FileWatch {
  readonly #options: FileWatchOptions
  #settled: Prints = new Map()
  #pending: Prints | undefined
  /** In a row, at which something was other than what was settled. */
  #looks = 0
  #timer: NodeJS.Timeout | undefined
  #stopped = false

  constructor(options: FileWatchOptions) {
    this.#options = options
  }

  /** From now on it looks. */
  start(): void {
    if (!this.#stopped) this.#wait()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  /** This is known, good or bad: only what differs from it is told. */
  settle(prints: Prints): void {
    this.#settled = prints
    this.#pending = undefined
    this.#looks = 0
  }

  #wait(): void {
    this.#timer = setTimeout(() => void this.#look(), this.#options.everyMs).unref()
  }

  async #look(): Promise<void> {
    try {
      const seen = await readPrints(this.#options.files())
      const isNew = differing(this.#settled, seen).length > 0
      const isDue = isNew && this.#isDue(seen)
      if (!isNew || isDue) this.settle(seen)
      if (isDue) await this.#options.onChange()
    } catch (error) {
      this.#options.onError(error)
    }
    this.start()
  }

  /** It stands, or has been looked at long enough. */
  #isDue(seen: Prints): boolean {
    const stands = this.#pending !== undefined && differing(this.#pending, seen).length === 0
    this.#pending = seen
    this.#looks += 1
    return stands || this.#looks === MAX_LOOKS
  }
}

export async function readPrints(files: readonly string[]): Promise<Prints> {
  const prints = new Map<string, string>()
  // One after the other: a file system that hangs shall not take every thread that there is for files.
  for (const file of files) prints.set(file, await printOf(file))
  return prints
}

/** The files whose content differs; one that only one of them knows counts too. */
export function differing(one: Prints, other: Prints): string[] {
  const files = new Set([...one.keys(), ...other.keys()])
  return [...files].filter((file) => one.get(file) !== other.get(file))
}

async function printOf(file: string): Promise<string> {
  try {
    // Opening a pipe would wait for who writes to it, and take from who reads it.
    const found = await stat(file)
    if (found.isDirectory()) return 'EISDIR'
    return found.isFile() ? await hashOf(file) : NO_FILE
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
  }
}

/** Of what a configuration may be made of; all beyond counts as its length. */
async function hashOf(file: string): Promise<string> {
  await using handle = await open(file, 'r')
  const hash = createHash('sha256')
  const bytes = Buffer.alloc(64 * 1024)
  let at = 0
  while (at <= MAX_FILE_BYTES) {
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, at)
    if (bytesRead === 0) return hash.digest('base64url')
    hash.update(bytes.subarray(0, bytesRead))
    at += bytesRead
  }
  return `${hash.digest('base64url')} ${(await handle.stat()).size}`
}
