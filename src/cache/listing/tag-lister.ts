// Lists the tags of a repository: what the upstream lists, or the tags that are held if it cannot be
// asked or takes too long.
import { ageSeconds } from '../../http/age.ts'
import type { CacheOutcome } from '../../http/cache-status.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Tags } from '../../store/records/tags.ts'
import type { TagPage } from '../../upstream/face/answers.ts'
import type { Requester, UpstreamFace } from '../../upstream/face/requester.ts'
import type { CacheObserver } from '../observer.ts'
import { reportFault, toClientError } from '../policy/failure.ts'
import type { FreshnessPolicy } from '../policy/freshness.ts'
import type { NegativeCache } from '../policy/negative-cache.ts'
import { type Fetched, type Held, type Resource, Revalidation } from '../policy/revalidation.ts'
import { type Page, pageOf, parsePage } from './page.ts'
import { fillPage } from './tag-page.ts'

export interface TagListerOptions {
  readonly upstream: Pick<UpstreamFace, 'tags' | 'budget'>
  readonly tags: Pick<Tags, 'get' | 'list'>
  readonly freshness: () => FreshnessPolicy
  readonly negative: NegativeCache
  readonly observer: Pick<CacheObserver, 'staleServed' | 'storeError' | 'unexpectedError'>
  readonly now?: () => number
}

export interface TagList {
  readonly tags: string[]
  /** The raw query string of the next page. */
  readonly next?: string
  readonly cache: CacheOutcome
}

interface ListedPage extends Resource {
  /** The client's raw query string. */
  readonly query: string
  readonly page: Page
}

export class TagLister {
  readonly #options: TagListerOptions
  readonly #now: () => number
  readonly #revalidation: Revalidation<ListedPage, TagPage>

  constructor(options: TagListerOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#revalidation = new Revalidation<ListedPage, TagPage>(
      {
        peek: () => undefined, // the upstream's lists are not kept
        load: (wanted) => this.#substitute(wanted),
        fetch: (wanted, _, requester) => this.#fetch(wanted, requester),
      },
      { ...options, what: 'tags', operation: 'revalidate tags' },
    )
  }

  /**
   * Returns one page. `query` is the client's raw query string: `n` and `last` (OCI distribution
   * spec, "Listing Tags"), or what an upstream's own `Link` said. Throws OciError.
   */
  async list(repo: Repository, query: string, requester: Requester): Promise<TagList> {
    const page = parsePage(query)
    if (page.n === 0) return { tags: [], cache: { state: 'hit' } }
    const key = `tags ${repo.registry}/${repo.name}?${withoutNamespace(query)}`
    // A missing list is not remembered: whoever asks for one has often just pushed the first tag.
    const settings = { ...this.#options.freshness().defaults, negativeTtlMs: 0 }
    const wanted: ListedPage = { repo, key, settings, query, page }
    try {
      const { value, cache } = await this.#revalidation.get(wanted, requester)
      const age = cache.state === 'stale' ? await this.#age(repo, value.tags) : {}
      return { ...value, cache: { ...cache, ...age } }
    } catch (error) {
      reportFault(error, 'list tags', this.#options.observer)
      throw toClientError(error, 'tags')
    }
  }

  /** Lets the upstream be asked again about lists that it failed at. */
  forgetFailures(): void {
    this.#revalidation.forgetFailures()
  }

  async #fetch({ repo, query }: ListedPage, requester: Requester): Promise<Fetched<TagPage>> {
    const { upstream } = this.#options
    const value = await fillPage(withoutNamespace(query), (next) => {
      return upstream.tags(repo, next, requester)
    })
    return { value, outcome: { state: 'miss', fwdStatus: 200 } }
  }

  /** The tags that are held; undefined if there are none. */
  async #substitute({ repo, page }: ListedPage): Promise<Held<TagPage> | undefined> {
    const { tags, observer } = this.#options
    const held = await tags.list(repo).catch((error: unknown) => {
      observer.storeError('list tags', error)
      return []
    })
    if (held.length === 0) return undefined
    const { items, next } = pageOf(held, page)
    return { value: next === undefined ? { tags: items } : { tags: items, next } }
  }

  /** Returns the age of the oldest of these held tags. */
  async #age(
    repo: Repository,
    names: readonly string[],
  ): Promise<Pick<CacheOutcome, 'ageSeconds'>> {
    const { tags, observer } = this.#options
    let oldest = Infinity
    // One after the other: there may be thousands, and each is a file.
    for (const name of names) {
      const entry = await tags.get(repo, name).catch((error: unknown) => {
        observer.storeError('read tag', error)
        return undefined
      })
      oldest = Math.min(oldest, entry?.checkedAt ?? Infinity)
    }
    return oldest === Infinity ? {} : { ageSeconds: ageSeconds(oldest, this.#now()) }
  }
}

/** Removes `ns`, which names the registry to us only. Everything else stays as it was written. */
function withoutNamespace(query: string): string {
  return query
    .split('&')
    .filter((part) => part !== '' && part !== 'ns' && !part.startsWith('ns='))
    .join('&')
}
