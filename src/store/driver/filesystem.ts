// The driver that keeps every key as a file below one directory. A file's mtime is its last use:
// unlike the atime, it is not changed by reads or backups, and `cp -a` and rsync preserve it. Tags
// may differ only in case, so the file system must be case-sensitive.

import { randomUUID } from 'node:crypto'
import type { Dirent } from 'node:fs'
import { mkdir, open, opendir, readFile, rename, rm, stat, statfs, utimes } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { checkKey, checkPrefix, etagOf, PreconditionFailed } from './driver.ts'
import type {
  Durability,
  PutOptions,
  StorageDriver,
  StoredEntry,
  StoredObject,
  WalkOptions,
} from './driver.ts'
import { errnoOf, isAbsent } from '../disk/errno.ts'
import { openNew, readFully, syncDirectory } from '../disk/file-io.ts'
import { INGEST_DIRECTORY, OWNER_DIRECTORY } from '../layout.ts'
import { Turns } from '../disk/turns.ts'
import { WriteGate } from '../disk/write-gate.ts'

/** Concurrent stats during a walk. More would keep reads waiting for libuv's thread pool. */
const WALK_BATCH = 8
const NOT_KEYS: ReadonlySet<string> = new Set([`${INGEST_DIRECTORY}/`, `${OWNER_DIRECTORY}/`])

export class FilesystemDriver implements StorageDriver {
  readonly #root: string
  readonly #gate: WriteGate
  readonly #turns = new Turns()

  /**
   * Files are written in `<directory>/ingest` and then renamed, so all of `directory` must be one
   * file system. After the gate is closed, whatever would change the directory throws StoreClosed.
   */
  constructor(directory: string, gate = new WriteGate()) {
    this.#root = directory
    this.#gate = gate
  }

  async get(key: string): Promise<{ bytes: Buffer; etag: string } | undefined> {
    const bytes = await unlessAbsent(readFile(this.#path(key)))
    return bytes === undefined ? undefined : { bytes, etag: etagOf(bytes) }
  }

  async put(key: string, value: Uint8Array, options: PutOptions = {}): Promise<string> {
    const path = this.#path(key)
    return await this.#change(key, async () => {
      if (options.ifMatch !== undefined) {
        const held = await this.get(key)
        if ((held?.etag ?? null) !== options.ifMatch) throw new PreconditionFailed(key)
      }
      await this.#write(path, value, options.durability ?? 'all')
      return etagOf(value)
    })
  }

  async open(key: string): Promise<StoredObject | undefined> {
    const file = await unlessAbsent(open(this.#path(key), 'r'))
    if (file === undefined) return undefined
    try {
      const found = await file.stat()
      if (found.isFile()) return new OpenFile(file, found.size)
    } catch (error) {
      await file.close()
      throw error
    }
    await file.close()
    return undefined
  }

  async stat(key: string): Promise<StoredEntry | undefined> {
    const found = await unlessAbsent(stat(this.#path(key)))
    if (found === undefined || !found.isFile()) return undefined
    return { key, size: found.size, usedAtMs: found.mtimeMs }
  }

  async touch(key: string): Promise<void> {
    const [path, now] = [this.#path(key), new Date()]
    await this.#gate.run(() => unlessAbsent(utimes(path, now, now)))
  }

  async adopt(key: string, file: string, options?: { readonly replace?: boolean }): Promise<void> {
    const path = this.#path(key)
    await this.#change(key, async () => {
      if (options?.replace !== true && (await this.stat(key)) !== undefined) {
        await rm(file, { force: true })
        return
      }
      this.#gate.check()
      const created = await moveInto(file, path)
      await syncAncestors(path, created)
    })
  }

  async move(key: string, to: string): Promise<boolean> {
    const [from, target] = [this.#path(key), this.#path(to)]
    return await this.#change(key, async () => {
      if ((await this.stat(key)) === undefined) return false
      await moveInto(from, target)
      return true
    })
  }

  async remove(key: string): Promise<void> {
    const path = this.#path(key)
    await this.#change(key, () => rm(path, { force: true }))
  }

  async *walk(prefix: string, options: WalkOptions = {}): AsyncIterable<StoredEntry> {
    checkPrefix(prefix)
    const pending = [prefix]
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      let batch: string[] = []
      for await (const entry of this.#list(at)) {
        const key = at + entry.name
        if (entry.isFile()) batch.push(key)
        else if (entry.isDirectory() && this.#enters(`${key}/`, options)) pending.push(`${key}/`)
        if (batch.length < WALK_BATCH) continue
        yield* await this.#statAll(batch)
        batch = []
      }
      yield* await this.#statAll(batch)
    }
  }

  async space(): Promise<{ freeBytes: number; totalBytes: number }> {
    const found = await statfs(this.#root)
    return { freeBytes: found.bavail * found.bsize, totalBytes: found.blocks * found.bsize }
  }

  #path(key: string): string {
    checkKey(key)
    return join(this.#root, key)
  }

  /** Runs the changes to one key one after the other. */
  async #change<T>(key: string, change: () => Promise<T>): Promise<T> {
    return await this.#gate.run(() =>
      this.#turns.take(key, async () => {
        this.#gate.check() // the gate may have closed while this waited for its turn
        return await change()
      }),
    )
  }

  #enters(prefix: string, options: WalkOptions): boolean {
    return !NOT_KEYS.has(prefix) && options.enter?.(prefix) !== false
  }

  async *#list(prefix: string): AsyncIterable<Dirent> {
    const directory = await unlessAbsent(opendir(join(this.#root, prefix), { bufferSize: 128 }))
    if (directory !== undefined) yield* directory
  }

  async #statAll(keys: readonly string[]): Promise<StoredEntry[]> {
    const found = await Promise.all(keys.map((key) => this.stat(key)))
    return found.filter((entry) => entry !== undefined)
  }

  async #write(path: string, value: Uint8Array, durability: Durability): Promise<void> {
    const ingest = join(this.#root, INGEST_DIRECTORY)
    const temporary = join(ingest, randomUUID())
    const write = () => writeNew(temporary, value, durability !== 'none')
    try {
      await write().catch(async (error: unknown) => {
        if (errnoOf(error) !== 'ENOENT') throw error
        await mkdir(ingest, { recursive: true }) // somebody emptied the cache by hand
        await write()
      })
      this.#gate.check()
      const created = await moveInto(temporary, path)
      if (durability === 'all') await syncAncestors(path, created)
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => {}) // the first error is the cause
      throw error
    }
  }
}

class OpenFile implements StoredObject {
  readonly size: number
  readonly #file: FileHandle
  #closing: Promise<void> | undefined

  constructor(file: FileHandle, size: number) {
    this.#file = file
    this.size = size
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    return await readFully(this.#file, into, at)
  }

  async close(): Promise<void> {
    this.#closing ??= this.#file.close()
    await this.#closing
  }
}

async function writeNew(path: string, value: Uint8Array, sync: boolean): Promise<void> {
  const file = await openNew(path, 'wx')
  try {
    await file.writeFile(value)
    if (sync) await file.datasync()
  } finally {
    await file.close()
  }
}

/** Renames a file. Returns the topmost directory that had to be created for it, if any. */
async function moveInto(file: string, path: string): Promise<string | undefined> {
  try {
    await rename(file, path)
    return undefined
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
  const created = await mkdir(dirname(path), { recursive: true })
  await rename(file, path)
  return created
}

/** Makes the entry at `path` durable, and that of each new directory above it, up to `created`. */
async function syncAncestors(path: string, created: string | undefined): Promise<void> {
  const top = created === undefined ? dirname(path) : dirname(created)
  let directory = dirname(path)
  await syncDirectory(directory)
  while (directory !== top) {
    directory = dirname(directory)
    await syncDirectory(directory)
  }
}

async function unlessAbsent<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}
