// Keys and bytes: what a place that keeps content must be able to do. It knows nothing of digests,
// repositories or ingests; layout.ts makes the keys. test/suites/storage-driver.ts holds every driver to this.

import { hash } from 'node:crypto'

/** An open object. Reading goes on after the key was removed or replaced, until `close`. */
export interface StoredObject {
  readonly size: number
  /** Reads from byte `at`; fewer bytes than asked for only at the end of the object. */
  read(into: Uint8Array, at: number): Promise<number>
  /** Safe to call twice. */
  close(): Promise<void>
}

export interface StoredEntry {
  readonly key: string
  readonly size: number
  /** When it was last put, adopted or touched, in milliseconds since the epoch. */
  readonly usedAtMs: number
}

/**
 * What a power failure may do to a `put` that was answered (a killed process loses nothing, ever).
 * all: it stays. content: it or the former value stays (half the cost). none: the key may be lost.
 */
export type Durability = 'all' | 'content' | 'none'

export interface PutOptions {
  /** Only if the present value has this etag; null: only if there is none. Else PreconditionFailed. */
  readonly ifMatch?: string | null
  /** Default: all. */
  readonly durability?: Durability
}

export interface WalkOptions {
  /** A hint: false for a prefix ("a/b/") means that nothing under it is wanted; drivers may ignore it. */
  readonly enter?: (prefix: string) => boolean
}

/** The value was not the one that `ifMatch` named. */
export class PreconditionFailed extends Error {
  override readonly name = 'PreconditionFailed'
  readonly key: string
  constructor(key: string) {
    super(`${key} has changed since it was read`)
    this.key = key
  }
}

/** Reads what is kept. */
export interface ObjectReader {
  get(key: string): Promise<{ bytes: Buffer; etag: string } | undefined>
  open(key: string): Promise<StoredObject | undefined>
  stat(key: string): Promise<StoredEntry | undefined>
  /** Every entry under a prefix that is empty or ends in "/", in no order. What changes meanwhile may be missed. */
  walk(prefix: string, options?: WalkOptions): AsyncIterable<StoredEntry>
}

/** Changes what is kept. */
export interface ObjectWriter {
  /** Atomic: a reader sees the former or the new value as a whole. Returns the etag. */
  put(key: string, value: Uint8Array, options?: PutOptions): Promise<string>
  /** Takes over a finished, fsynced local file. Already there (without `replace`): done, the file is removed. */
  adopt(key: string, file: string, options?: { readonly replace?: boolean }): Promise<void>
  /** Renames, in place of what is at `to`; a power failure may undo it. Returns false if nothing is at `key`. */
  move(key: string, to: string): Promise<boolean>
  /** Sets the time of use to now. Absent: done. */
  touch(key: string): Promise<void>
  /** Absent: done. */
  remove(key: string): Promise<void>
}

/** Keys are relative paths of plain components, as `checkKey` has them; no key is a prefix of another. */
export interface StorageDriver extends ObjectReader, ObjectWriter {
  space(): Promise<{ freeBytes: number; totalBytes: number }>
}

/** The part of a driver that cannot change anything. */
export type StorageReader = Pick<ObjectReader, 'get' | 'stat'>

/** Where the store tells of failures that cost a cache entry but not an answer. */
export interface StoreObserver {
  storeError(operation: string, error: Error): void
}

const MAX_COMPONENT_BYTES = 255 // NAME_MAX of every common file system

/** Throws where a key could leave its root or cannot be a path: a bug or an unchecked name, never a client's mistake. */
export function checkKey(key: string): void {
  for (const component of key.split('/')) {
    const bad =
      component === '' ||
      component === '.' ||
      component === '..' ||
      component.includes('\0') ||
      component.includes('\\') ||
      Buffer.byteLength(component) > MAX_COMPONENT_BYTES
    if (bad) throw new TypeError(`not a storage key: ${JSON.stringify(key.slice(0, 300))}`)
  }
}

/** A prefix to walk is empty or a key followed by "/". */
export function checkPrefix(prefix: string): void {
  if (prefix === '') return
  if (!prefix.endsWith('/')) throw new TypeError(`a prefix ends in "/": ${JSON.stringify(prefix)}`)
  checkKey(prefix.slice(0, -1))
}

/** An etag for drivers that have none of their own: by content, so no clock or file number can mislead it. */
export function etagOf(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'base64url')
}
