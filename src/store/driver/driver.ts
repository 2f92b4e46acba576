// The interface of a storage driver, which keeps bytes under keys. Drivers know nothing of digests,
// repositories or ingests; layout.ts makes the keys. test/suites/storage-driver.ts tests every
// driver.

import { hash } from 'node:crypto'

/** An open object. It stays readable until `close`, even if its key is removed or replaced. */
export interface StoredObject {
  readonly size: number
  /**
   * Fills `into` from byte `at`. Returns the bytes read, which are fewer only at the end of the
   * object.
   */
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
 * What a power failure may do to a `put` that has resolved. A killed process never loses anything.
 *
 * - `all`: the new value stays.
 * - `content`: the new or the previous value stays. Costs half as much.
 * - `none`: the key may be lost.
 */
export type Durability = 'all' | 'content' | 'none'

export interface PutOptions {
  /**
   * Writes only if the current value has this etag, or, for null, if there is none. Else
   * PreconditionFailed.
   */
  readonly ifMatch?: string | null
  /** Default: all. */
  readonly durability?: Durability
}

export interface WalkOptions {
  /**
   * Returns false if nothing under the prefix ("a/b/") is wanted. A hint that drivers may ignore.
   */
  readonly enter?: (prefix: string) => boolean
}

/** The current value did not have the etag that `ifMatch` named. */
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
  /**
   * Yields every entry under a prefix, which is empty or ends in "/", in no particular order. It
   * may miss what changes meanwhile.
   */
  walk(prefix: string, options?: WalkOptions): AsyncIterable<StoredEntry>
}

/** Changes what is kept. */
export interface ObjectWriter {
  /**
   * Writes a value atomically: a reader sees all of the previous or all of the new one. Returns the
   * etag.
   */
  put(key: string, value: Uint8Array, options?: PutOptions): Promise<string>
  /**
   * Takes over a complete, fsynced local file. If the key exists and `replace` is not set, only
   * removes the file.
   */
  adopt(key: string, file: string, options?: { readonly replace?: boolean }): Promise<void>
  /**
   * Renames `key` to `to` and replaces what is there; a power failure may undo it. Returns false if
   * `key` is absent.
   */
  move(key: string, to: string): Promise<boolean>
  /** Sets `usedAtMs` to now. Does nothing if the key is absent. */
  touch(key: string): Promise<void>
  /** Does nothing if the key is absent. */
  remove(key: string): Promise<void>
}

/** Keys are relative paths that satisfy `checkKey`. No key is a directory of another. */
export interface StorageDriver extends ObjectReader, ObjectWriter {
  space(): Promise<{ freeBytes: number; totalBytes: number }>
}

/** The part of a driver that cannot change anything. */
export type StorageReader = Pick<ObjectReader, 'get' | 'stat'>

/** Receives the failures that cost a cache entry but not a response. */
export interface StoreObserver {
  storeError(operation: string, error: Error): void
}

/** NAME_MAX of every common file system. */
const MAX_COMPONENT_BYTES = 255

/**
 * Throws a TypeError if a key could escape its root or cannot be a path. That is a bug or an
 * unchecked name: what clients send is validated before.
 */
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

/** Throws a TypeError unless the prefix is empty or a key followed by "/". */
export function checkPrefix(prefix: string): void {
  if (prefix === '') return
  if (!prefix.endsWith('/'))
    throw new TypeError(`a prefix must end in "/": ${JSON.stringify(prefix)}`)
  checkKey(prefix.slice(0, -1))
}

/**
 * Returns an etag for drivers that have none of their own. It depends on the content alone, because
 * a file's time and inode number can be the same for two values.
 */
export function etagOf(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'base64url')
}
