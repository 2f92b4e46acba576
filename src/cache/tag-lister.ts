// The tags of a repository: the upstream's list, and the tags held here while it cannot be asked.
import type { CacheOutcome } from '../http/cache-status.ts'
import { OciError } from '../oci/errors.ts'
import type { Repository } from '../oci/reference.ts'
import type { Tags } from '../store/tags.ts'
import { UpstreamError } from '../upstream/failure.ts'
import type { TagPage, Upstream } from '../upstream/upstream.ts'
import { staleReasonOf } from './backoff.ts'
import { type Caller, sharedKey } from './caller.ts'
import { Coalescer } from './coalescer.ts'
import { toClientError } from './failure.ts'
import type { FreshnessPolicy } from './freshness.ts'
import type { CacheObserver } from './observer.ts'
import { pageOf, parsePage } from './page.ts'

export interface TagListerOptions {
  readonly upstream: Pick<Upstream, 'tags'>
  readonly tags: Pick<Tags, 'list'>
  readonly freshness: FreshnessPolicy
  readonly observer: Pick<CacheObserver, 'staleServed' | 'storeError' | 'unexpectedError'>
}

export interface TagList {
  readonly tags: string[]
  /** Raw query string of the next page. */
  readonly next?: string
  readonly cache: CacheOutcome
}

export class TagLister {
  readonly #options: TagListerOptions
  readonly #flights = new Coalescer<TagPage>()

  constructor(options: TagListerOptions) {
    this.#options = options
  }

  /**
   * One page. `query` is the client's raw query string: `n` and `last` (OCI distribution spec,
   * "Listing Tags"), or what an upstream's own `Link` said. Throws OciError.
   */
  async list(repo: Repository, query: string, caller: Caller): Promise<TagList> {
    const page = parsePage(query)
    if (page.n === 0) return { tags: [], cache: { state: 'hit' } }
    const asked = withoutNamespace(query)
    try {
      const key = sharedKey(`${repo.registry}/${repo.name}?${asked}`, caller)
      const flight = this.#flights.run(key, () => {
        return this.#options.upstream.tags(repo, asked, caller)
      })
      const state = flight.joined ? 'collapsed' : 'miss'
      return { ...(await flight.promise), cache: { state, fwdStatus: 200 } }
    } catch (error) {
      return await this.#held(repo, query, error)
    }
  }

  async #held(repo: Repository, query: string, error: unknown): Promise<TagList> {
    const { observer, freshness } = this.#options
    const known = error instanceof OciError || error instanceof UpstreamError
    if (!known) observer.unexpectedError('list tags', error)
    const reason = staleReasonOf(error)
    const refused = reason === 'upstream-gone' && freshness.defaults.whenGone === 'refuse'
    const held = refused ? [] : await this.#read(repo)
    if (held.length === 0) throw toClientError(error, 'tags')
    observer.staleServed(reason)
    const { items, next } = pageOf(held, parsePage(query))
    const cache: CacheOutcome = { state: 'stale', detail: reason }
    return next === undefined ? { tags: items, cache } : { tags: items, next, cache }
  }

  async #read(repo: Repository): Promise<string[]> {
    try {
      return await this.#options.tags.list(repo)
    } catch (error) {
      this.#options.observer.storeError('list tags', error)
      return []
    }
  }
}

/** `ns` names the registry to us; an upstream would not know it. All else stays as it was written. */
function withoutNamespace(query: string): string {
  return query
    .split('&')
    .filter((part) => part !== '' && part !== 'ns' && !part.startsWith('ns='))
    .join('&')
}
