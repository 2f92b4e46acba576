// Reads a store's directory without owning it, while a server may be running there. It writes,
// touches and removes nothing. A damaged record counts as absent and stays in place for the owner
// to find.

import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import type { StorageReader } from './driver/driver.ts'
import { FilesystemDriver } from './driver/filesystem.ts'
import { parseJson } from './disk/json.ts'
import type { LinkKind } from './layout.ts'
import { blobKey, linkKey, manifestKey, tagKey } from './layout.ts'
import type { Link } from './records/links.ts'
import { parseLink } from './records/links.ts'
import { isManifestOf } from './records/manifests.ts'
import type { TagEntry } from './records/tags.ts'
import { parseTagEntry } from './records/tags.ts'

/** Returns a reader of the directory, which does not have to exist. */
export function readStored(directory: string): Stored {
  return new Stored(new FilesystemDriver(directory))
}

export class Stored {
  readonly #driver: StorageReader

  constructor(driver: StorageReader) {
    this.#driver = driver
  }

  async tag(repository: Repository, tag: string): Promise<TagEntry | undefined> {
    return await this.#record(tagKey(repository, tag), parseTagEntry)
  }

  async link(repository: Repository, kind: LinkKind, digest: Digest): Promise<Link | undefined> {
    return await this.#record(linkKey(repository, kind, digest), parseLink)
  }

  async manifest(digest: Digest): Promise<Buffer | undefined> {
    const held = await this.#driver.get(manifestKey(digest))
    return held && isManifestOf(digest, held.bytes) ? held.bytes : undefined
  }

  /** Returns the size of the blob's file in bytes. Its content is not checked. */
  async blob(digest: Digest): Promise<{ readonly size: number } | undefined> {
    const entry = await this.#driver.stat(blobKey(digest))
    return entry && { size: entry.size }
  }

  async #record<T>(key: string, parse: (value: unknown) => T | undefined): Promise<T | undefined> {
    const held = await this.#driver.get(key)
    return held && parseJson(held.bytes, parse)
  }
}
