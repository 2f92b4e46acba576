// Links record which repository has which content, and since when. Content is kept once, by digest;
// a link makes it visible in a repository. Whether a link is enough for a requester is decided in
// cache/.

import type { Digest } from '../../oci/digest.ts'
import type { Repository } from '../../oci/reference.ts'
import type { StorageDriver, StoreObserver } from '../driver/driver.ts'
import { isCount, isRecord } from '../disk/json.ts'
import { linkKey, REPOSITORIES_PREFIX, repositoryOfKey } from '../layout.ts'
import type { LinkKind } from '../layout.ts'
import { Records } from './records.ts'

export type GrantedBy = 'anonymous' | 'credential' | 'imported'

export interface Link {
  readonly kind: LinkKind
  readonly mediaType?: string
  /** In bytes, according to the descriptor or the upstream. */
  readonly size?: number
  readonly grantedBy: GrantedBy
  /** When the upstream granted it, in milliseconds since the epoch. */
  readonly at: number
}

export interface RecordStoreOptions {
  readonly driver: StorageDriver
  readonly observer?: StoreObserver | undefined
}

export class Links {
  readonly #driver: StorageDriver
  readonly #records: Records<Link>

  constructor(options: RecordStoreOptions) {
    this.#driver = options.driver
    this.#records = new Records<Link>({
      ...options,
      parse: parseLink,
      timeOf: (link) => link.at,
      essence: ({ kind, mediaType, size, grantedBy }) => [kind, mediaType, size, grantedBy],
      durability: 'content',
    })
  }

  async get(repository: Repository, kind: LinkKind, digest: Digest): Promise<Link | undefined> {
    return await this.#records.get(linkKey(repository, kind, digest))
  }

  async put(repository: Repository, digest: Digest, link: Link): Promise<void> {
    await this.#records.put(linkKey(repository, link.kind, digest), link)
  }

  async remove(repository: Repository, kind: LinkKind, digest: Digest): Promise<void> {
    await this.#records.remove(linkKey(repository, kind, digest))
  }

  /**
   * Yields every repository that has a manifest or a tag, once, in no particular order. It walks
   * the store, so keep it out of hot paths.
   */
  async *repositories(): AsyncIterable<Repository> {
    const seen = new Set<string>()
    const enter = (prefix: string): boolean => {
      const found = repositoryOfKey(prefix)
      return found === undefined || (lists(found.rest) && !seen.has(nameOf(found.repository)))
    }
    for await (const { key } of this.#driver.walk(REPOSITORIES_PREFIX, { enter })) {
      const found = repositoryOfKey(key)
      if (found === undefined || !lists(found.rest)) continue
      const name = nameOf(found.repository)
      if (seen.has(name)) continue
      seen.add(name)
      yield found.repository
    }
  }
}

function lists(rest: string): boolean {
  return rest.startsWith('_manifests/') || rest.startsWith('_tags/')
}

function nameOf(repository: Repository): string {
  return `${repository.registry}/${repository.name}`
}

export function isGrantedBy(value: unknown): value is GrantedBy {
  return value === 'anonymous' || value === 'credential' || value === 'imported'
}

/** Returns undefined for a value that is not a link. */
export function parseLink(value: unknown): Link | undefined {
  if (!isRecord(value)) return undefined
  const { kind, mediaType, size, grantedBy, at } = value
  if (kind !== 'manifest' && kind !== 'blob') return undefined
  if (!isGrantedBy(grantedBy) || !isCount(at)) return undefined
  if (mediaType !== undefined && typeof mediaType !== 'string') return undefined
  if (size !== undefined && !isCount(size)) return undefined
  return {
    kind,
    grantedBy,
    at,
    ...(mediaType !== undefined && { mediaType }),
    ...(size !== undefined && { size }),
  }
}
