// The face of this room: a repository over its registry's endpoints in order, the next one on any
// failure; of several failures the least final decides.
import type { Descriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import { getBlob, headBlob } from './blobs.ts'
import type { BlobHead } from './blobs.ts'
import type { RegistryClient } from './client.ts'
import { CredentialError } from './configured-credentials.ts'
import type { CredentialSource } from './credentials.ts'
import { Deadline } from './deadline.ts'
import type { Endpoint } from './endpoint.ts'
import { leastFinal, UpstreamError } from './failure.ts'
import { getReferrers, getTags } from './lists.ts'
import type { TagPage } from './lists.ts'
import { getManifest, headManifest } from './manifests.ts'
import type { FetchedManifest, ManifestHead } from './manifests.ts'
import type { UpstreamObserver } from './observer.ts'
import type { Place, Question } from './place.ts'
import type { Requester } from './requester.ts'
import { rewriteName } from './rewrite.ts'
import type { Source } from './source.ts'

export type { BlobHead } from './blobs.ts'
export type { FetchedManifest, ManifestHead } from './manifests.ts'
export type { TagPage } from './lists.ts'
export type { UpstreamObserver } from './observer.ts'

export interface UpstreamOptions {
  readonly registries: {
    endpoints(registry: string): readonly Endpoint[]
    /** Those with an entry of their own; the others are there by "*". */
    readonly names: readonly string[]
  }
  readonly client: RegistryClient
  readonly observer?: Pick<UpstreamObserver, 'upstreamFailure'> | undefined
}

/** One question to one endpoint, until its signal fires. */
type AskOne<T> = (place: Place, until: AbortSignal) => Promise<T>

export class Upstream {
  readonly #registries: UpstreamOptions['registries']
  readonly #client: RegistryClient
  readonly #observer: UpstreamOptions['observer']
  readonly #numbers = new WeakMap<CredentialSource, number>()
  #numbered = 0

  constructor(options: UpstreamOptions) {
    this.#registries = options.registries
    this.#client = options.client
    this.#observer = options.observer
  }

  /** HEAD, or a GET where the upstream refuses HEAD or leaves out digest, type or length. */
  headManifest(
    repo: Repository,
    reference: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<ManifestHead | FetchedManifest> {
    return this.#askInTurn('manifest', repo, requester, signal, (place, until) => {
      return headManifest(place, reference, until)
    })
  }

  /** Throws UpstreamError, or the signal's reason; so do all others. */
  getManifest(
    repo: Repository,
    reference: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<FetchedManifest> {
    return this.#askInTurn('manifest', repo, requester, signal, (place, until) => {
      return getManifest(place, reference, until)
    })
  }

  /** Whether the upstream lets the requester have the blob, and its size where it says. */
  headBlob(
    repo: Repository,
    digest: Digest,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<BlobHead> {
    return this.#askInTurn('blob', repo, requester, signal, (place, until) => {
      return headBlob(place, digest, until)
    })
  }

  /** Where the repository's blobs can be read from, in the order in which to try. */
  blobSources(repo: Repository, requester: Requester): Source[] {
    return this.#endpoints(repo).map((endpoint) => ({
      id: `${endpoint.key} ${rewritten(endpoint, repo)} ${this.#numberOf(requester.credentials)}`,
      origin: endpoint.key,
      health: 'ok',
      fetch: async (digest, range, signal) => {
        const place = await this.#placeAt(endpoint, repo, requester)
        return await getBlob(place, digest, range, signal)
      },
    }))
  }

  /** `query`: raw query string for the upstream, without `ns`. */
  tags(
    repo: Repository,
    query: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<TagPage> {
    return this.#askInTurn('tags', repo, requester, signal, (place, until) => {
      return getTags(place, query, until)
    })
  }

  /** All pages, bounded, unfiltered; undefined: no endpoint has the API (404). */
  async referrers(
    repo: Repository,
    digest: Digest,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<{ manifests: Descriptor[] } | undefined> {
    try {
      return await this.#askInTurn('referrers', repo, requester, signal, (place, until) => {
        return getReferrers(place, digest, until)
      })
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === 'gone') return undefined
      throw error
    }
  }

  async #askInTurn<T>(
    kind: Question['kind'],
    repo: Repository,
    requester: Requester,
    signal: AbortSignal | undefined,
    askOne: AskOne<T>,
  ): Promise<T> {
    const failures: UpstreamError[] = []
    for (const endpoint of this.#endpoints(repo)) {
      try {
        const place = await this.#placeAt(endpoint, repo, requester)
        return await this.#askInTime(place, signal, askOne)
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof UpstreamError)) throw error
        failures.push(error)
        // That something is not there is an answer, not a failure.
        if (error.kind !== 'gone') this.#observer?.upstreamFailure(error, { kind })
      }
    }
    throw leastFinal(failures)
  }

  async #askInTime<T>(
    place: Place,
    signal: AbortSignal | undefined,
    askOne: AskOne<T>,
  ): Promise<T> {
    const { documentTimeoutMs: ms } = this.#client.limits
    using deadline = new Deadline(ms, () => tooSlow(place.endpoint, ms), signal)
    return await askOne(place, deadline.signal)
  }

  /** At least one. */
  #endpoints(repo: Repository): readonly Endpoint[] {
    const endpoints = this.#registries.endpoints(repo.registry)
    if (endpoints.length > 0) return endpoints
    const what = `no endpoint for ${repo.registry}: add it to mirrors, or set defaultEndpoints`
    throw new UpstreamError('not-found', what, { endpoint: repo.registry })
  }

  async #placeAt(
    endpoint: Endpoint,
    repo: Repository,
    { credentials, cdnLoop }: Requester,
  ): Promise<Place> {
    const name = rewritten(endpoint, repo)
    const { key } = endpoint
    try {
      const credential = await credentials.credentialFor(endpoint)
      const publicOnly = this.#isNamedByClient(endpoint, repo)
      return { client: this.#client, endpoint, name, credential, cdnLoop, publicOnly }
    } catch (error) {
      if (!(error instanceof CredentialError)) throw error
      throw new UpstreamError('bad-credentials', `${key}: ${error.message}`, {
        endpoint: key,
        cause: error,
      })
    }
  }

  /** By "*" a client may name any host, but must not make us ask our own network. */
  #isNamedByClient(endpoint: Endpoint, repo: Repository): boolean {
    return endpoint.isDefault && !this.#registries.names.includes(repo.registry)
  }

  /** Equal for equal sources; what they give is looked up later and may change. */
  #numberOf(credentials: CredentialSource): number {
    const known = this.#numbers.get(credentials)
    const number = known ?? ++this.#numbered
    if (known === undefined) this.#numbers.set(credentials, number)
    return number
  }
}

function tooSlow({ key }: Endpoint, ms: number): UpstreamError {
  const cure = 'list another endpoint before it in mirrors.<registry>.endpoint'
  const what = `sent no whole answer in ${ms / 1000} s: ${cure}`
  return new UpstreamError('timed-out', `${key}: ${what}`, { endpoint: key })
}

function rewritten(endpoint: Endpoint, repo: Repository): string {
  return rewriteName(endpoint.rewrites, repo.name).name
}
