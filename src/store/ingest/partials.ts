// The partial files: those that ingests are filling, and those that were suspended for the next
// ingest of the same digest, in this process or a later one. Their content is the business of
// ingest.ts and journal.ts.

import { randomBytes } from 'node:crypto'
import type { Stats } from 'node:fs'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { algorithmOf, encodedOf, parseDigest } from '../../oci/digest.ts'
import type { Digest } from '../../oci/digest.ts'
import { errnoOf, isAbsent, storageTrouble } from '../disk/errno.ts'
import { LocalIngest } from './ingest.ts'
import type { Adopt, PartialOptions } from './ingest.ts'
import { extentOf, journalPaths, readJournal } from './journal.ts'
import { WriteGate } from '../disk/write-gate.ts'

export interface Removed {
  readonly files: number
  /** Space on the disk; gaps do not count. */
  readonly bytes: number
}

/**
 * Names are never reused: a journal that a power failure has restored must not match another file.
 */
const PARTIAL = /^(sha256|sha512)-([0-9a-f]+)\.[0-9a-f]{16}\.part$/

/**
 * Names of files that no later process can use: unfinished puts, and ingests that could not be
 * suspended.
 */
const TEMPORARY = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.json(\.new)?)?$/

export class Partials {
  readonly #directory: string
  /** Names of the suspended files. */
  readonly #suspended = new Map<Digest, string>()
  readonly #filling = new Set<Digest>()
  readonly #onError: (error: unknown) => void
  readonly #gate: WriteGate

  /** `directory` is a local directory that nothing else uses until the gate is closed. */
  constructor(directory: string, onError: (error: unknown) => void, gate = new WriteGate()) {
    this.#directory = directory
    this.#onError = onError
    this.#gate = gate
  }

  /**
   * Finds the files that an earlier process left, and removes the unusable ones. Call it at start,
   * before any other method. Files with other names stay. Throws StoreClosed if the gate closes
   * meanwhile.
   */
  async load(): Promise<void> {
    const names = new Set(await readdir(this.#directory))
    for (const name of names) {
      this.#gate.check()
      const partial = name.replace(/\.json(\.new)?$/, '')
      const isOrphan = name !== partial && PARTIAL.test(partial) && !names.has(partial)
      if (isOrphan || TEMPORARY.test(name)) await this.#remove(name)
      const digest = digestOfName(name)
      if (digest !== undefined) await this.#find(digest, name)
    }
  }

  /**
   * Opens the suspended file of this digest, or a new one. While it is open, further ingests of the
   * digest get files that cannot be suspended.
   */
  async open(digest: Digest, adopt: Adopt): Promise<LocalIngest> {
    return await this.#gate.run(async () => {
      try {
        return await this.#open(digest, adopt)
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error
        await mkdir(this.#directory, { recursive: true }) // somebody emptied the cache by hand
        return await this.#open(digest, adopt)
      }
    })
  }

  async #open(digest: Digest, adopt: Adopt): Promise<LocalIngest> {
    const directory = this.#directory
    if (this.#filling.has(digest)) return await LocalIngest.create({ directory, digest, adopt })
    this.#filling.add(digest)
    try {
      const reopened = await this.#reopen(digest, adopt)
      return (
        reopened ?? (await LocalIngest.createPartial(this.#options(digest, nameOf(digest), adopt)))
      )
    } catch (error) {
      this.#filling.delete(digest)
      throw error
    }
  }

  /** Removes the suspended file of a digest, if there is one. */
  async discard(digest: Digest, signal?: AbortSignal): Promise<void> {
    const name = this.#suspended.get(digest)
    if (name === undefined) return
    this.#suspended.delete(digest)
    await this.#remove(name, signal)
  }

  /**
   * Removes the suspended files that have not been opened or written for `olderThanMs`
   * milliseconds. Stops early when the signal fires or the gate closes.
   */
  async removeOlder(olderThanMs: number, signal?: AbortSignal): Promise<Removed> {
    return await this.#gate.run(() => this.#removeOlder(olderThanMs, signal))
  }

  async #removeOlder(olderThanMs: number, signal: AbortSignal | undefined): Promise<Removed> {
    let [files, bytes] = [0, 0]
    for (const [digest, name] of this.#suspended) {
      if (this.#isOver(signal)) break
      const found = await statOf(join(this.#directory, name))
      const ageMs = found === undefined ? Infinity : Math.max(Date.now() - found.mtimeMs, 0)
      if (ageMs < olderThanMs) continue
      if (this.#suspended.get(digest) !== name) continue // opened again meanwhile
      await this.discard(digest, signal)
      files += 1
      bytes += found === undefined ? 0 : found.blocks * 512
    }
    return { files, bytes }
  }

  async #reopen(digest: Digest, adopt: Adopt): Promise<LocalIngest | undefined> {
    const name = this.#suspended.get(digest)
    if (name === undefined) return undefined
    this.#suspended.delete(digest)
    try {
      const ingest = await LocalIngest.reopen(this.#options(digest, name, adopt))
      if (ingest !== undefined) return ingest
    } catch (error) {
      if (!isAbsent(error) && storageTrouble(error) !== 'broken') {
        this.#suspended.set(digest, name) // too many open files, for example: it may succeed later
        throw error
      }
    }
    await this.#remove(name)
    return undefined
  }

  #options(digest: Digest, name: string, adopt: Adopt): PartialOptions {
    const onEnd = (isSuspended: boolean) => {
      this.#filling.delete(digest)
      if (isSuspended) this.#suspended.set(digest, name)
    }
    return { path: join(this.#directory, name), digest, adopt, onEnd }
  }

  async #find(digest: Digest, name: string): Promise<void> {
    if (!this.#suspended.has(digest) && (await this.#isUsable(digest, name))) {
      this.#suspended.set(digest, name)
    } else {
      await this.#remove(name)
    }
  }

  async #isUsable(digest: Digest, name: string): Promise<boolean> {
    const path = join(this.#directory, name)
    try {
      const have = await readJournal(path, digest)
      return have !== undefined && extentOf(have) <= (await stat(path)).size
    } catch {
      return false
    }
  }

  /**
   * Removes the journal first: the next start removes a partial file without one. It also finds
   * what could not be removed now, and what is left when the signal fires or the gate closes.
   */
  async #remove(name: string, signal?: AbortSignal): Promise<void> {
    const partial = join(this.#directory, name)
    try {
      for (const path of [...journalPaths(partial), partial]) {
        if (this.#isOver(signal)) return
        await rm(path, { force: true })
      }
    } catch (error) {
      this.#onError(error)
    }
  }

  #isOver(signal: AbortSignal | undefined): boolean {
    return this.#gate.isClosed || signal?.aborted === true
  }
}

function nameOf(digest: Digest): string {
  return `${algorithmOf(digest)}-${encodedOf(digest)}.${randomBytes(8).toString('hex')}.part`
}

function digestOfName(name: string): Digest | undefined {
  const [, algorithm, encoded] = PARTIAL.exec(name) ?? []
  return parseDigest(`${algorithm}:${encoded}`)
}

async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path)
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}
