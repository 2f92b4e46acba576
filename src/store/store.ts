// Opens a directory as a store: checks its version, clears what a killed server left half done, and
// puts the parts together. The caller already owns the directory (owner.ts). Opening never walks
// the content.

import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Blobs } from './blobs/blobs.ts'
import type { StorageDriver, StoreObserver } from './driver/driver.ts'
import { explainStorageError } from './disk/errno.ts'
import { FilesystemDriver } from './driver/filesystem.ts'
import { INGEST_DIRECTORY, LAYOUT_VERSION, VERSION_KEY } from './layout.ts'
import { Links } from './records/links.ts'
import { Manifests } from './records/manifests.ts'
import { Referrers } from './records/referrers.ts'
import { Tags } from './records/tags.ts'
import { WriteGate } from './disk/write-gate.ts'

export interface StoreOptions {
  /** The local directory of the ingests, whichever driver is used. */
  readonly directory: string
  /** Default: the filesystem driver on the same directory. */
  readonly driver?: StorageDriver
  readonly observer?: StoreObserver | undefined
  /**
   * Aborts the opening: nothing is written after it has fired. It has no effect once the store is
   * open.
   */
  readonly signal?: AbortSignal
}

export interface Store {
  readonly driver: StorageDriver
  readonly blobs: Blobs
  readonly manifests: Manifests
  readonly links: Links
  readonly tags: Tags
  readonly referrers: Referrers
  /**
   * Stops background work and refuses new writes. Resolves when the last running write has ended:
   * only then may another server take the directory. Open files stay readable.
   */
  close(): Promise<void>
}

/**
 * Opens the store. Only the owner of the directory may call this. Throws an Error that names the
 * directory and the cure, or the signal's reason.
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { signal } = options
  const gate = new WriteGate()
  const close = () => void gate.close()
  signal?.addEventListener('abort', close)
  try {
    signal?.throwIfAborted()
    const store = await open(options, gate)
    signal?.throwIfAborted()
    return store
  } catch (error) {
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', close)
  }
}

async function open(options: StoreOptions, gate: WriteGate): Promise<Store> {
  const { directory, driver = new FilesystemDriver(directory, gate) } = options
  const ingestDirectory = join(directory, INGEST_DIRECTORY)
  const parts = { driver, observer: options.observer }
  const blobs = new Blobs({ ...parts, ingestDirectory, gate })
  try {
    const isNew = await checkVersion(driver, directory)
    gate.check()
    await mkdir(ingestDirectory, { recursive: true })
    if (isNew) await driver.put(VERSION_KEY, Buffer.from(`${LAYOUT_VERSION}\n`))
    else await blobs.loadPartials()
  } catch (error) {
    throw explainStorageError(error, directory)
  }
  return {
    driver,
    blobs,
    manifests: new Manifests(parts),
    links: new Links(parts),
    tags: new Tags(parts),
    referrers: new Referrers(parts),
    close: async () => {
      blobs.close()
      await gate.close()
    },
  }
}

/**
 * Returns true if the directory has no version yet. Throws for any other version and changes
 * nothing.
 */
async function checkVersion(driver: StorageDriver, directory: string): Promise<boolean> {
  const text = (await driver.get(VERSION_KEY))?.bytes.toString('utf8').trim()
  if (text === undefined) return true
  if (text === String(LAYOUT_VERSION)) return false
  if (/^[0-9]{1,9}$/.test(text) && Number(text) > LAYOUT_VERSION) {
    throw new Error(
      `${directory} was written by a newer Chandlery (layout ${text}, this one knows ${LAYOUT_VERSION}): ` +
        'run the newer version, or set storage.directory to another directory',
    )
  }
  throw new Error(
    `${directory} is not a Chandlery store: its file "${VERSION_KEY}" holds ${JSON.stringify(text.slice(0, 40))} ` +
      `instead of ${LAYOUT_VERSION}: set storage.directory to another directory`,
  )
}
