// A small file that others may replace while we run (secrets, certificates, docker's config.json):
// looked at when used, at most once a second, read again when it changed.
import { stat } from 'node:fs/promises'
import type { Stats } from 'node:fs'

import { readWhole } from './read-file.ts'
import { SharedRead } from './shared-read.ts'

const CHECK_EVERY_MS = 1000

export interface WatchedFileOptions {
  /** A file that is longer is an error. Default 1 MiB. */
  readonly maxBytes?: number
  readonly now?: () => number
  /** How long anybody waits for it to be read, in milliseconds. */
  readonly timeoutMs?: number | undefined
}

export class WatchedFile<T> {
  readonly path: string
  readonly #parse: (bytes: Buffer) => T
  readonly #maxBytes: number | undefined
  readonly #now: () => number
  #checkedAt = -Infinity
  #signature: string | undefined
  #value: T | undefined
  readonly #checking: SharedRead<void>

  constructor(path: string, parse: (bytes: Buffer) => T, options: WatchedFileOptions = {}) {
    this.path = path
    this.#parse = parse
    this.#maxBytes = options.maxBytes
    this.#now = options.now ?? Date.now
    this.#checking = new SharedRead(path, options.timeoutMs)
  }

  /**
   * What the file holds; undefined when there is none. Throws when it cannot be read in time or
   * parsed, but a good value stays in use while its successor is bad, missing or cannot be read (it
   * may be half written).
   */
  async current(): Promise<T | undefined> {
    if (this.#now() - this.#checkedAt >= CHECK_EVERY_MS) {
      try {
        await this.#checking.run(() => this.#check())
      } catch (error) {
        if (this.#value === undefined) throw error
      }
    }
    return this.#value
  }

  /** It changed: the next who asks reads it, whatever its size and time say. */
  recheck(): void {
    this.#checkedAt = -Infinity
    this.#signature = undefined
  }

  async #check(): Promise<void> {
    const found = await statOrAbsent(this.path)
    const signature = found && `${found.ino}:${found.size}:${found.mtimeMs}`
    if (signature !== undefined && signature !== this.#signature) await this.#read()
    this.#signature = signature
    this.#checkedAt = this.#now()
  }

  async #read(): Promise<void> {
    try {
      this.#value = this.#parse(await readWhole(this.path, this.#maxBytes))
    } catch (error) {
      if (this.#value === undefined) throw error
    }
  }
}

async function statOrAbsent(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}
