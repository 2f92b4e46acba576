// The tags of a repository: the upstream's list, and the tags held here while it cannot be asked or
// takes too long.
import type { CacheOutcome } from '../../http/cache-status.ts'
import type { Repository } from '../../oci/reference.ts'
import type { Tags } from '../../store/records/tags.ts'
import { type Caller, sharedKey } from '../flight/caller.ts'
import { Coalescer, type Flight } from '../flight/coalescer.ts'
import type { Asked, HeldAnswer } from '../policy/failure-table.ts'
import { decideOn, faultIn, toClientError } from '../policy/failure.ts'
import type { FreshnessPolicy } from '../policy/freshness.ts'
import type { CacheObserver, StaleReason } from '../observer.ts'
import { pageOf, parsePage } from './page.ts'
import { askPatiently, within } from '../flight/patience.ts'
import { fillPage } from './tag-page.ts'
import type { TagPage } from '../../upstream/face/answers.ts'
import type { UpstreamFace } from '../../upstream/face/requester.ts'

export interface TagListerOptions {
  readonly upstream: Pick<UpstreamFace, 'tags'>
  readonly tags: Pick<Tags, 'list'>
  readonly freshness: FreshnessPolicy
  readonly observer: Pick<CacheObserver, 'staleServed' | 'storeError' | 'unexpectedError'>
  readonly now?: () => number
}

export interface TagList {
  readonly tags: string[]
  /** Raw query string of the next page. */
  readonly next?: string
  readonly cache: CacheOutcome
}

export class TagLister {
  readonly #options: TagListerOptions
  readonly #now: () => number
  readonly #flights: Coalescer<TagPage>

  constructor(options: TagListerOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#flights = new Coalescer(this.#now)
  }

  /**
   * One page. `query` is the client's raw query string: `n` and `last` (OCI distribution spec,
   * "Listing Tags"), or what an upstream's own `Link` said. Throws OciError.
   */
  async list(repo: Repository, query: string, caller: Caller): Promise<TagList> {
    const page = parsePage(query)
    if (page.n === 0) return { tags: [], cache: { state: 'hit' } }
    try {
      const flight = this.#flight(repo, withoutNamespace(query), caller)
      const found = await this.#inTime(flight)
      if (found === undefined) return await this.#meanwhile(repo, query, flight)
      return answered(found, flight)
    } catch (error) {
      return await this.#afterFailure(repo, query, error)
    }
  }

  #flight(repo: Repository, query: string, caller: Caller): Flight<TagPage> {
    const key = sharedKey(`${repo.registry}/${repo.name}?${query}`, caller)
    const { upstream } = this.#options
    return this.#flights.run(key, () => {
      return askPatiently(
        () => fillPage(query, (next) => upstream.tags(repo, next, caller)),
        async (error, waitedMs) => {
          const held = await this.#read(repo)
          return decideOn(error, { ...this.#asked(held), waitedMs })
        },
      )
    })
  }

  #inTime(flight: Flight<TagPage>): Promise<TagPage | undefined> {
    const waitedMs = Math.max(0, this.#now() - flight.startedAt)
    const { revalidateTimeoutMs } = this.#options.freshness.defaults
    return within(flight.promise, revalidateTimeoutMs - waitedMs)
  }

  /** The upstream takes its time: what is held answers, if anything is. */
  async #meanwhile(repo: Repository, query: string, flight: Flight<TagPage>): Promise<TagList> {
    const { staleIfErrorMs } = this.#options.freshness.defaults
    const held = staleIfErrorMs === 0 ? [] : await this.#read(repo)
    if (held.length > 0) return this.#serve(held, query, 'revalidating')
    return answered(await flight.promise, flight)
  }

  async #afterFailure(repo: Repository, query: string, error: unknown): Promise<TagList> {
    const fault = faultIn(error)
    if (fault !== undefined) this.#options.observer.unexpectedError('list tags', fault)
    const held = await this.#read(repo)
    const decision = decideOn(error, this.#asked(held))
    if (decision.act === 'serve') return this.#serve(held, query, decision.detail)
    throw toClientError(error, 'tags')
  }

  #serve(held: readonly string[], query: string, reason: StaleReason): TagList {
    this.#options.observer.staleServed(reason)
    const { items, next } = pageOf(held, parsePage(query))
    const cache: CacheOutcome = { state: 'stale', detail: reason }
    return next === undefined ? { tags: items, cache } : { tags: items, next, cache }
  }

  #asked(held: readonly string[]): Asked {
    return { what: 'tags', held: held.length === 0 ? undefined : this.#answer() }
  }

  /** Each tag was seen at a time of its own: together they count as just no longer fresh. */
  #answer(): HeldAnswer {
    const settings = this.#options.freshness.defaults
    const now = this.#now()
    return { checkedAt: now - settings.ttlMs, settings, now }
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

function answered(page: TagPage, { joined }: Flight<TagPage>): TagList {
  return { ...page, cache: { state: joined ? 'collapsed' : 'miss', fwdStatus: 200 } }
}

/** `ns` names the registry to us; an upstream would not know it. All else stays as it was written. */
function withoutNamespace(query: string): string {
  return query
    .split('&')
    .filter((part) => part !== '' && part !== 'ns' && !part.startsWith('ns='))
    .join('&')
}
