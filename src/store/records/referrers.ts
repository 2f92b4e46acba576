// The last known list of a digest's referrers, for when the upstream cannot be asked.

import { readDescriptor } from '../../oci/descriptor.ts'
import type { Descriptor } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import { isCount, isRecord } from '../disk/json.ts'
import { referrersKey } from '../layout.ts'
import type { RecordStoreOptions } from './links.ts'
import { Records } from './records.ts'

export interface ReferrersEntry {
  readonly manifests: Descriptor[]
  /** When the upstream last sent the list, in milliseconds since the epoch. */
  readonly checkedAt: number
}

export class Referrers {
  readonly #records: Records<ReferrersEntry>

  constructor(options: RecordStoreOptions) {
    this.#records = new Records<ReferrersEntry>({
      ...options,
      parse: parseReferrers,
      timeOf: (entry) => entry.checkedAt,
      essence: (entry) => entry.manifests,
      durability: 'content',
    })
  }

  async get(repository: Repository, digest: Digest): Promise<ReferrersEntry | undefined> {
    return await this.#records.get(referrersKey(repository, digest))
  }

  async put(repository: Repository, digest: Digest, entry: ReferrersEntry): Promise<void> {
    await this.#records.put(referrersKey(repository, digest), entry)
  }

  async remove(repository: Repository, digest: Digest): Promise<void> {
    await this.#records.remove(referrersKey(repository, digest))
  }
}

function parseReferrers(value: unknown): ReferrersEntry | undefined {
  if (!isRecord(value) || !isCount(value.checkedAt) || !Array.isArray(value.manifests)) {
    return undefined
  }
  const manifests = value.manifests.map(readDescriptor)
  if (manifests.some((descriptor) => descriptor === undefined)) return undefined
  return {
    manifests: manifests.filter((descriptor) => descriptor !== undefined),
    checkedAt: value.checkedAt,
  }
}
