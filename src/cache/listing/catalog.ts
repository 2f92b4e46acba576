// The repositories that something is held of. Not what upstreams have: nobody could list that.
import { isRepositoryName, type Repository } from '../../oci/reference.ts'
import { Coalescer } from '../flight/coalescer.ts'

export interface CatalogOptions {
  readonly links: { repositories(): AsyncIterable<Repository> }
  /** More are not listed. */
  readonly maxRepositories?: number
  readonly now?: () => number
}

/** Listing walks the store: a client that asks again and again shares one walk for so long. */
const REMEMBERED_MS = 5_000

export class Catalog {
  readonly #options: CatalogOptions
  readonly #now: () => number
  readonly #walks = new Coalescer<readonly Repository[]>()
  #last: { repositories: readonly Repository[]; at: number } | undefined

  constructor(options: CatalogOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /** Sorted names; of one registry as they are there, of all with the registry in front. */
  async repositories(registry: string | undefined): Promise<string[]> {
    const all = await this.#all()
    const names =
      registry === undefined
        ? all.map((repo) => `${repo.registry}/${repo.name}`)
        : all.filter((repo) => repo.registry === registry).map((repo) => repo.name)
    return names.toSorted()
  }

  async #all(): Promise<readonly Repository[]> {
    const now = this.#now()
    const last = this.#last
    if (last && last.at <= now && now < last.at + REMEMBERED_MS) return last.repositories
    return this.#walks.run('', () => this.#walk()).promise
  }

  async #walk(): Promise<readonly Repository[]> {
    const { links, maxRepositories = 100_000 } = this.#options
    const found: Repository[] = []
    for await (const repo of links.repositories()) {
      // What is recorded for a registry as a whole stands under a name that none can have.
      if (!isRepositoryName(repo.name)) continue
      found.push(repo)
      if (found.length >= maxRepositories) break
    }
    this.#last = { repositories: found, at: this.#now() }
    return found
  }
}
