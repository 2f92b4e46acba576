// A small file that others may replace while we run (secrets, certificates, docker's config.json):
// looked at when used, at most once a second, and read only when it has changed. Links are followed,
// so that a mounted Kubernetes secret is seen as soon as its ..data link is swapped.
import { stat } from 'node:fs/promises'
import type { Stats } from 'node:fs'

import { readWhole } from './read-file.ts'
import { SharedRead } from './shared-read.ts'
import { signatureOf } from './signature.ts'

const CHECK_EVERY_MS = 1000

export interface WatchedFileOptions {
  /** A longer file is an error. Default 1 MiB. */
  readonly maxBytes?: number
  /**
   * Whether a good value stays in use while its successor is missing or bad, for example half
   * written. Default true.
   */
  readonly keepsFormer?: boolean
  /** A clock in milliseconds. By default a monotonic one. */
  readonly now?: () => number
  /** How long a caller waits for the file to be read, in milliseconds. */
  readonly timeoutMs?: number | undefined
}

export class WatchedFile<T> {
  readonly path: string
  readonly #parse: (bytes: Buffer) => T
  readonly #maxBytes: number | undefined
  readonly #keepsFormer: boolean
  readonly #now: () => number
  #checkedAt = -Infinity
  /** The signature of the file that was read last; undefined if the file must be read again in any case. */
  #signature: string | undefined
  #rechecks = 0
  #value: T | undefined
  readonly #checking: SharedRead<void>

  constructor(path: string, parse: (bytes: Buffer) => T, options: WatchedFileOptions = {}) {
    this.path = path
    this.#parse = parse
    this.#maxBytes = options.maxBytes
    this.#keepsFormer = options.keepsFormer ?? true
    this.#now = options.now ?? (() => performance.now())
    this.#checking = new SharedRead(path, options.timeoutMs)
  }

  /**
   * Returns what the file held `maxAgeMs` ago or later, or undefined if there is none. Throws if it
   * cannot be read in time or parsed and no former value is kept; without `keepsFormer` also if
   * there is none.
   */
  async current(maxAgeMs: number = CHECK_EVERY_MS): Promise<T | undefined> {
    if (this.#now() - this.#checkedAt >= maxAgeMs) {
      try {
        await this.#checking.run(() => this.#check())
      } catch (error) {
        if (!this.#keepsFormer || this.#value === undefined) throw error
      }
    }
    return this.#value
  }

  /** Makes the next caller read the file, whatever its size and times say. */
  recheck(): void {
    this.#rechecks += 1
    this.#checkedAt = -Infinity
    this.#signature = undefined
  }

  async #check(): Promise<void> {
    const startedAt = this.#now()
    const rechecks = this.#rechecks
    try {
      const found = await this.#stat()
      const signature = found && signatureOf(found)
      if (signature !== undefined && signature !== this.#signature) {
        this.#value = this.#parse(await readWhole(this.path, this.#maxBytes))
      }
      if (rechecks === this.#rechecks) this.#signature = signature
    } catch (error) {
      if (!this.#keepsFormer) this.recheck()
      if (!this.#keepsFormer || this.#value === undefined) throw error
    }
    if (rechecks === this.#rechecks) this.#checkedAt = startedAt
  }

  async #stat(): Promise<Stats | undefined> {
    try {
      return await stat(this.path)
    } catch (error) {
      const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT'
      if (isAbsent && this.#keepsFormer) return undefined
      throw error
    }
  }
}
