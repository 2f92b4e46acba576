// Manifests by digest, byte for byte. Every read checks the digest. cache/ keeps recent ones in
// memory, and decides by the links (links.ts) who may read one.

import { algorithmOf, digestOf } from '../../oci/digest.ts'
import type { Digest } from '../../oci/digest.ts'
import { readManifest } from '../../oci/manifest.ts'
import type { StorageDriver, StoreObserver } from '../driver/driver.ts'
import { asError } from '../disk/errno.ts'
import { LastUse } from './last-use.ts'
import { manifestKey } from '../layout.ts'
import { Turns } from '../disk/turns.ts'

export interface ManifestsOptions {
  readonly driver: StorageDriver
  readonly observer?: StoreObserver | undefined
}

export class Manifests {
  readonly #driver: StorageDriver
  readonly #observer: StoreObserver | undefined
  readonly #lastUse: LastUse
  readonly #turns = new Turns()

  constructor(options: ManifestsOptions) {
    this.#driver = options.driver
    this.#observer = options.observer
    this.#lastUse = new LastUse(options.driver, (error) => this.#report('touch manifest', error))
  }

  /** Returns the exact bytes. A damaged manifest is removed and counts as absent. */
  async get(digest: Digest): Promise<Buffer | undefined> {
    const key = manifestKey(digest)
    const held = await this.#driver.get(key)
    if (held === undefined) return undefined
    if (!isManifestOf(digest, held.bytes)) return await this.#removeDamaged(digest, key)
    this.#lastUse.note(key)
    return held.bytes
  }

  /**
   * Keeps bytes that the caller has verified. Does nothing if the manifest is held and not damaged.
   */
  async put(digest: Digest, bytes: Uint8Array): Promise<void> {
    const key = manifestKey(digest)
    await this.#turns.take(key, async () => {
      const held = await this.#driver.get(key)
      if (held === undefined || !isManifestOf(digest, held.bytes))
        await this.#driver.put(key, bytes)
    })
  }

  /** Records that the manifest is used now, for callers that answer from memory. */
  used(digest: Digest): void {
    this.#lastUse.note(manifestKey(digest))
  }

  async remove(digest: Digest): Promise<void> {
    const key = manifestKey(digest)
    this.#lastUse.forget(key)
    await this.#turns.take(key, () => this.#driver.remove(key))
  }

  /**
   * Removes the damaged manifest. If a put has replaced it meanwhile, returns the new one instead.
   */
  async #removeDamaged(digest: Digest, key: string): Promise<Buffer | undefined> {
    return await this.#turns.take(key, async () => {
      const held = await this.#driver.get(key)
      if (held === undefined || isManifestOf(digest, held.bytes)) return held?.bytes
      this.#report('read manifest', new Error(`${key} was damaged and has been removed`))
      await this.#driver.remove(key)
      return undefined
    })
  }

  #report(operation: string, error: unknown): void {
    this.#observer?.storeError(operation, asError(error))
  }
}

/**
 * Reports whether `bytes` are the manifest that the digest names. The digest of a signed schema 1
 * manifest is that of its payload without the signatures: such a manifest is accepted unchecked.
 */
export function isManifestOf(digest: Digest, bytes: Uint8Array): boolean {
  return digestOf(bytes, algorithmOf(digest)) === digest || readManifest(bytes)?.schema1 === true
}
