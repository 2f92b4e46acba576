// Lists the repositories of which something is held. What upstreams have cannot be listed.
import { isRepositoryName, type Repository } from '../../oci/reference.ts'
import { Coalescer } from '../flight/coalescer.ts'

export interface CatalogOptions {
  readonly links: { repositories(): AsyncIterable<Repository> }
  /** The most repositories listed. */
  readonly maxRepositories?: number
  readonly now?: () => number
}

/** How long one walk of the store answers: a client that asks repeatedly costs one walk per 5 s. */
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

  /** Returns sorted names: those of one registry, or of all with the registry in front. */
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
      // Links of a registry as a whole stand under a name that no repository can have.
      if (!isRepositoryName(repo.name)) continue
      found.push(repo)
      if (found.length >= maxRepositories) break
    }
    this.#last = { repositories: found, at: this.#now() }
    return found
  }
}
