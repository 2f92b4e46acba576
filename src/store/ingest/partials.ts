// The files that downloads are filling, or have left half-filled for the next one of the same digest, in this
// process or a later one. What is in them, ingest.ts and journal.ts know.

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
  /** On the disk: gaps do not count. */
  readonly bytes: number
}

/** No name is ever used twice: a sidecar that a power failure brought back cannot find another's file. */
const PARTIAL = /^(sha256|sha512)-([0-9a-f]+)\.[0-9a-f]{16}\.part$/

/** Files that no later process can use: unfinished puts of filesystem.ts and ingests without a sidecar. */
const TEMPORARY = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.json(\.new)?)?$/

export class Partials {
  readonly #directory: string
  /** File names of what was left, by digest. */
  readonly #left = new Map<Digest, string>()
  readonly #filling = new Set<Digest>()
  readonly #onError: (error: unknown) => void
  readonly #gate: WriteGate

  /** `directory`: local, and nobody else's until the gate is closed. */
  constructor(directory: string, onError: (error: unknown) => void, gate = new WriteGate()) {
    this.#directory = directory
    this.#onError = onError
    this.#gate = gate
  }

  /**
   * At start, before anything else is asked: finds what an earlier process left, and removes what of it
   * nobody can use. Files with names of other kinds stay. Throws StoreClosed where the gate closes meanwhile.
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
   * The file that was left of this digest, with what it has, or a new one. While it is open, another
   * one for the same digest gets a file that cannot be left for later.
   */
  async open(digest: Digest, adopt: Adopt): Promise<LocalIngest> {
    return await this.#gate.run(async () => {
      try {
        return await this.#open(digest, adopt)
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error
        await mkdir(this.#directory, { recursive: true }) // the cache was emptied by hand
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

  /** Removes what was left of a digest, if anything was. */
  async discard(digest: Digest, signal?: AbortSignal): Promise<void> {
    const name = this.#left.get(digest)
    if (name === undefined) return
    this.#left.delete(digest)
    await this.#remove(name, signal)
  }

  /**
   * Removes what was left and not opened or written since `olderThanMs` milliseconds. Goes no further once the
   * signal fires or the gate is closed.
   */
  async removeOlder(olderThanMs: number, signal?: AbortSignal): Promise<Removed> {
    return await this.#gate.run(() => this.#removeOlder(olderThanMs, signal))
  }

  async #removeOlder(olderThanMs: number, signal: AbortSignal | undefined): Promise<Removed> {
    let [files, bytes] = [0, 0]
    for (const [digest, name] of this.#left) {
      if (this.#isOver(signal)) break
      const found = await statOf(join(this.#directory, name))
      const ageMs = found === undefined ? Infinity : Math.max(Date.now() - found.mtimeMs, 0)
      if (ageMs < olderThanMs) continue
      if (this.#left.get(digest) !== name) continue // somebody came back for it meanwhile
      await this.discard(digest, signal)
      files += 1
      bytes += found === undefined ? 0 : found.blocks * 512
    }
    return { files, bytes }
  }

  async #reopen(digest: Digest, adopt: Adopt): Promise<LocalIngest | undefined> {
    const name = this.#left.get(digest)
    if (name === undefined) return undefined
    this.#left.delete(digest)
    try {
      const ingest = await LocalIngest.reopen(this.#options(digest, name, adopt))
      if (ingest !== undefined) return ingest
    } catch (error) {
      if (!isAbsent(error) && storageTrouble(error) !== 'broken') {
        this.#left.set(digest, name) // too many open files, say: it may be read another time
        throw error
      }
    }
    await this.#remove(name)
    return undefined
  }

  #options(digest: Digest, name: string, adopt: Adopt): PartialOptions {
    const ended = (isLeft: boolean) => {
      this.#filling.delete(digest)
      if (isLeft) this.#left.set(digest, name)
    }
    return { path: join(this.#directory, name), digest, adopt, ended }
  }

  async #find(digest: Digest, name: string): Promise<void> {
    if (!this.#left.has(digest) && (await this.#isUsable(digest, name))) {
      this.#left.set(digest, name)
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
   * The sidecar first: a file without one is nobody's. What cannot be removed, or is not because the signal
   * fires or the gate closes, is found again at the next start.
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
