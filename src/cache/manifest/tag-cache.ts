// What tags point at, as last seen: the ones in use in memory, all of them in the store. Not the
// decision whether that still holds: see freshness.ts and tag-resolver.ts.
import { LRUCache } from 'lru-cache'
import type { Repository } from '../../oci/reference.ts'
import type { TagEntry, Tags } from '../../store/records/tags.ts'
import type { Failure } from '../policy/backoff.ts'
import type { FreshnessPolicy, FreshnessSettings } from '../policy/freshness.ts'
import type { CacheObserver } from '../observer.ts'
import type { WriteBehind } from '../flight/write-behind.ts'

/** A tag in memory. */
export interface TagRecord {
  readonly entry: TagEntry
  readonly settings: FreshnessSettings
  /** Of the policy that the settings are from. */
  readonly version: number
  /** Asking the upstream failed, and until then it is not asked again. */
  readonly failure?: Failure
}

export interface TagCacheOptions {
  readonly tags: Pick<Tags, 'get' | 'put'>
  readonly freshness: FreshnessPolicy
  readonly writes: WriteBehind
  readonly observer: Pick<CacheObserver, 'storeError'>
  readonly maxEntries?: number
}

export class TagCache {
  readonly #options: TagCacheOptions
  readonly #memory: LRUCache<string, TagRecord>

  constructor(options: TagCacheOptions) {
    this.#options = options
    this.#memory = new LRUCache({ max: options.maxEntries ?? 50_000 })
  }

  /** From memory alone. */
  peek(repo: Repository, tag: string): TagRecord | undefined {
    return this.#known(repo, tag)
  }

  /** What failed may work now: the upstream is asked again by the next who wants something. */
  forgetFailures(): void {
    const failed = [...this.#memory.entries()].filter(([, { failure }]) => failure !== undefined)
    for (const [key, { failure: _, ...record }] of failed) this.#memory.set(key, record)
  }

  /** From memory, else from the store. An unreadable entry counts as none and is reported. */
  async load(repo: Repository, tag: string): Promise<TagRecord | undefined> {
    const key = tagKeyOf(repo, tag)
    const known = this.#known(repo, tag)
    if (known !== undefined) return known
    const entry = await this.#read(repo, tag)
    // What was put while the disk was read is the newer one.
    const newer = this.#known(repo, tag)
    if (newer !== undefined || entry === undefined) return newer
    const record: TagRecord = { entry, ...this.#settings(repo, tag) }
    this.#memory.set(key, record)
    return record
  }

  /** The upstream has just said so; a failure before it is forgotten. */
  put(repo: Repository, tag: string, entry: TagEntry): TagRecord {
    const key = tagKeyOf(repo, tag)
    const { tags, writes } = this.#options
    const { settings, version } = this.#known(repo, tag) ?? this.#settings(repo, tag)
    const record: TagRecord = { entry, settings, version }
    this.#memory.set(key, record)
    // The store itself writes a mere `checkedAt` now and then only.
    writes.push(`tag ${key}`, 'write tag', () => tags.put(repo, tag, entry))
    return record
  }

  /** Asking again failed: keeps what is known, and remembers not to ask before `until`. */
  fail(repo: Repository, tag: string, failure: Failure): void {
    const key = tagKeyOf(repo, tag)
    const known = this.#memory.get(key)
    if (known !== undefined) this.#memory.set(key, { ...known, failure })
  }

  /** With the settings that hold now. */
  #known(repo: Repository, tag: string): TagRecord | undefined {
    const key = tagKeyOf(repo, tag)
    const known = this.#memory.get(key)
    if (known === undefined || known.version === this.#options.freshness.version) return known
    const record: TagRecord = { ...known, ...this.#settings(repo, tag) }
    this.#memory.set(key, record)
    return record
  }

  #settings(repo: Repository, tag: string): Pick<TagRecord, 'settings' | 'version'> {
    const { freshness } = this.#options
    return { settings: freshness.settingsFor(repo, tag), version: freshness.version }
  }

  async #read(repo: Repository, tag: string): Promise<TagEntry | undefined> {
    try {
      return await this.#options.tags.get(repo, tag)
    } catch (error) {
      this.#options.observer.storeError('read tag', error)
      return undefined
    }
  }
}

/** A name holds no colon, so two tags never share a key. */
export function tagKeyOf(repo: Repository, tag: string): string {
  return `${repo.registry}/${repo.name}:${tag}`
}
