// Records what each tag pointed to when the upstream was last asked. cache/ decides whether that is
// fresh.

import { parseDigest } from '../../oci/digest.ts'
import type { Digest } from '../../oci/digest.ts'
import { isTag } from '../../oci/reference.ts'
import type { Repository } from '../../oci/reference.ts'
import type { StorageDriver } from '../driver/driver.ts'
import { isCount, isRecord } from '../disk/json.ts'
import { tagKey, tagsPrefix } from '../layout.ts'
import { isGrantedBy } from './links.ts'
import type { GrantedBy, RecordStoreOptions } from './links.ts'
import { Records } from './records.ts'

export interface TagEntry {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
  /** When the upstream last confirmed it, in milliseconds since the epoch. */
  readonly checkedAt: number
  readonly grantedBy: GrantedBy
}

export class Tags {
  readonly #driver: StorageDriver
  readonly #records: Records<TagEntry>

  constructor(options: RecordStoreOptions) {
    this.#driver = options.driver
    this.#records = new Records<TagEntry>({
      ...options,
      parse: parseTagEntry,
      timeOf: (entry) => entry.checkedAt,
      essence: ({ digest, mediaType, size, grantedBy }) => [digest, mediaType, size, grantedBy],
      durability: 'all',
    })
  }

  async get(repository: Repository, tag: string): Promise<TagEntry | undefined> {
    return await this.#records.get(tagKey(repository, tag))
  }

  /**
   * A new digest is durable when this resolves. A new `checkedAt` alone is written at most once a
   * minute.
   */
  async put(repository: Repository, tag: string, entry: TagEntry): Promise<void> {
    await this.#records.put(tagKey(repository, tag), entry)
  }

  async remove(repository: Repository, tag: string): Promise<void> {
    await this.#records.remove(tagKey(repository, tag))
  }

  /** Returns the held tags in ASCII order. */
  async list(repository: Repository): Promise<string[]> {
    const prefix = tagsPrefix(repository)
    const tags: string[] = []
    for await (const { key } of this.#driver.walk(prefix)) tags.push(key.slice(prefix.length))
    return tags.filter(isTag).toSorted()
  }
}

/** Returns undefined for a value that is not a tag entry. */
export function parseTagEntry(value: unknown): TagEntry | undefined {
  if (!isRecord(value)) return undefined
  const { mediaType, size, checkedAt, grantedBy } = value
  const digest = typeof value.digest === 'string' ? parseDigest(value.digest) : undefined
  if (digest === undefined || typeof mediaType !== 'string') return undefined
  if (!isCount(size) || !isCount(checkedAt) || !isGrantedBy(grantedBy)) return undefined
  return { digest, mediaType, size, checkedAt, grantedBy }
}
