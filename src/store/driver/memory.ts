// A driver that keeps everything in memory, for tests. The conformance suite also runs against it.

import { readFile, rm } from 'node:fs/promises'
import { checkKey, checkPrefix, etagOf, PreconditionFailed } from './driver.ts'
import type { PutOptions, StorageDriver, StoredEntry, StoredObject, WalkOptions } from './driver.ts'

interface Kept {
  readonly bytes: Buffer
  usedAtMs: number
}

export class MemoryDriver implements StorageDriver {
  readonly #kept = new Map<string, Kept>()
  readonly #totalBytes: number

  constructor(totalBytes = 2 ** 30) {
    this.#totalBytes = totalBytes
  }

  async get(key: string): Promise<{ bytes: Buffer; etag: string } | undefined> {
    const kept = this.#find(key)
    return kept && { bytes: Buffer.from(kept.bytes), etag: etagOf(kept.bytes) }
  }

  async put(key: string, value: Uint8Array, options: PutOptions = {}): Promise<string> {
    const held = this.#find(key)
    if (options.ifMatch !== undefined) {
      if ((held ? etagOf(held.bytes) : null) !== options.ifMatch) throw new PreconditionFailed(key)
    }
    this.#keep(key, Buffer.from(value))
    return etagOf(value)
  }

  async open(key: string): Promise<StoredObject | undefined> {
    const kept = this.#find(key)
    return kept && new OpenBytes(kept.bytes)
  }

  async stat(key: string): Promise<StoredEntry | undefined> {
    const kept = this.#find(key)
    return kept && { key, size: kept.bytes.length, usedAtMs: kept.usedAtMs }
  }

  async touch(key: string): Promise<void> {
    const kept = this.#find(key)
    if (kept !== undefined) kept.usedAtMs = Date.now()
  }

  async adopt(key: string, file: string, options?: { readonly replace?: boolean }): Promise<void> {
    checkKey(key)
    if (options?.replace === true || !this.#kept.has(key)) this.#keep(key, await readFile(file))
    await rm(file, { force: true })
  }

  async move(key: string, to: string): Promise<boolean> {
    const kept = this.#find(key)
    checkKey(to)
    if (kept === undefined) return false
    this.#kept.delete(key)
    this.#kept.set(to, kept)
    return true
  }

  async remove(key: string): Promise<void> {
    checkKey(key)
    this.#kept.delete(key)
  }

  async *walk(prefix: string, options: WalkOptions = {}): AsyncIterable<StoredEntry> {
    checkPrefix(prefix)
    for (const [key, kept] of this.#kept) {
      if (!key.startsWith(prefix) || !entersAll(key, prefix, options)) continue
      yield { key, size: kept.bytes.length, usedAtMs: kept.usedAtMs }
    }
  }

  async space(): Promise<{ freeBytes: number; totalBytes: number }> {
    let used = 0
    for (const kept of this.#kept.values()) used += kept.bytes.length
    return { freeBytes: Math.max(this.#totalBytes - used, 0), totalBytes: this.#totalBytes }
  }

  #find(key: string): Kept | undefined {
    checkKey(key)
    return this.#kept.get(key)
  }

  #keep(key: string, bytes: Buffer): void {
    this.#kept.set(key, { bytes, usedAtMs: Date.now() })
  }
}

class OpenBytes implements StoredObject {
  readonly size: number
  readonly #bytes: Buffer
  #closed = false

  constructor(bytes: Buffer) {
    this.#bytes = bytes
    this.size = bytes.length
  }

  async read(into: Uint8Array, at: number): Promise<number> {
    if (this.#closed) throw new Error('the object is closed')
    const part = this.#bytes.subarray(at, at + into.length)
    into.set(part)
    return part.length
  }

  async close(): Promise<void> {
    this.#closed = true
  }
}

function entersAll(key: string, prefix: string, options: WalkOptions): boolean {
  if (options.enter === undefined) return true
  for (let end = key.indexOf('/', prefix.length); end >= 0; end = key.indexOf('/', end + 1)) {
    if (!options.enter(key.slice(0, end + 1))) return false
  }
  return true
}
