// The face of this room: what the cache can ask of a repository's upstreams. How they are asked is
// in client/chain.ts, and what is read from their answers in content/.
import type { Descriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import type { RegistryClient } from './client/client.ts'
import { isProbedFirst } from './client/probe.ts'
import type { EndpointSession, Operation, Route } from './client/request.ts'
import { getBlob, headBlob, holdUntilEnded } from './content/blobs.ts'
import type { BlobResponse } from './content/blobs.ts'
import { getReferrers, getTags } from './content/lists.ts'
import { getManifest, headManifest } from './content/manifests.ts'
import type { CredentialSource } from './credentials/credentials.ts'
import type { BlobHead, Budget, FetchedManifest, ManifestHead, TagPage } from './face/answers.ts'
import { UpstreamError } from './face/failure.ts'
import type { Requester, UpstreamFace } from './face/requester.ts'
import type { Source, SourceHealth } from './face/source.ts'
import type { Endpoint } from './routing/endpoint.ts'
import { rewriteName } from './routing/rewrite.ts'

export interface UpstreamOptions {
  readonly registries: {
    endpoints(registry: string): readonly Endpoint[]
    /** The registries with an entry of their own. All others are there because of "*". */
    readonly names: readonly string[]
  }
  readonly client: RegistryClient
  /** The upstream that this one replaces: equal sources keep their ids. */
  readonly former?: Upstream | undefined
}

/** The order in which to ask. */
const HEALTHS = ['ok', 'limited', 'open'] as const

/** How a document is read at one endpoint. */
type ReadDocument<T> = (session: EndpointSession, signal: AbortSignal) => Promise<T>

export class Upstream implements UpstreamFace {
  readonly #registries: UpstreamOptions['registries']
  readonly #client: RegistryClient
  readonly #credentialIds: { readonly of: WeakMap<CredentialSource, number>; last: number }

  constructor({ registries, client, former }: UpstreamOptions) {
    this.#registries = registries
    this.#client = client
    const isFirst = former === undefined
    this.#credentialIds = isFirst ? { of: new WeakMap(), last: 0 } : former.#credentialIds
  }

  headManifest(
    repo: Repository,
    reference: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<ManifestHead | FetchedManifest> {
    const read: ReadDocument<ManifestHead | FetchedManifest> = (session, until) =>
      headManifest(session, reference, until)
    return this.#document('manifest', read, { repo, requester, signal })
  }

  getManifest(
    repo: Repository,
    reference: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<FetchedManifest> {
    const read: ReadDocument<FetchedManifest> = (session, until) =>
      getManifest(session, reference, until)
    return this.#document('manifest', read, { repo, requester, signal })
  }

  headBlob(
    repo: Repository,
    digest: Digest,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<BlobHead> {
    const read: ReadDocument<BlobHead> = (session, until) => headBlob(session, digest, until)
    return this.#document('blob', read, { repo, requester, signal })
  }

  blobSources(repo: Repository, requester: Requester): Source[] {
    const routes = this.#routes(repo)
    const sources = routes.map((route) => this.#source(route, routes, requester))
    return HEALTHS.flatMap((health) => sources.filter((source) => source.health === health))
  }

  budget(repo: Repository): Budget | undefined {
    const { health } = this.#client
    const endpoints = this.#registries.endpoints(repo.registry)
    const isUp = (each: Endpoint) => health.stateOf(each, 'metadata') !== 'open'
    const endpoint = endpoints.find(isUp) ?? endpoints[0]
    return endpoint && health.rateLimits.budget(endpoint.host)
  }

  tags(
    repo: Repository,
    query: string,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<TagPage> {
    const read: ReadDocument<TagPage> = (session, until) => getTags(session, query, until)
    return this.#document('tags', read, { repo, requester, signal })
  }

  async referrers(
    repo: Repository,
    digest: Digest,
    requester: Requester,
    signal?: AbortSignal,
  ): Promise<{ manifests: Descriptor[] } | undefined> {
    const read: ReadDocument<{ manifests: Descriptor[] }> = (session, until) =>
      getReferrers(session, digest, until)
    try {
      return await this.#document('referrers', read, { repo, requester, signal })
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === 'gone') return undefined
      throw error
    }
  }

  async #document<T>(
    kind: Operation<T>['kind'],
    perform: ReadDocument<T>,
    { repo, requester, signal = never() }: DocumentOf,
  ): Promise<T> {
    const operation = { kind, lane: 'metadata', perform } as const
    const routes = this.#routes(repo)
    return await this.#client.chain.documents({ operation, routes, requester }, signal)
  }

  #source(route: Route, routes: readonly Route[], requester: Requester): Source {
    const { endpoint } = route
    const client = this.#client
    const health = () => this.#contentHealth(endpoint, routes)
    return {
      id: this.#sourceId(route, requester),
      origin: endpoint.key,
      fetchOptions: client.fetchOptions(endpoint),
      get health() {
        return health()
      },
      get latencyMs() {
        return client.health.latencyMs(endpoint)
      },
      fetch: async (digest, range, signal) => {
        const operation: Operation<BlobResponse> = {
          kind: 'blob',
          lane: 'content',
          perform: (session, until) => getBlob(session, digest, range, until),
          hold: holdUntilEnded,
        }
        const request = { operation, route, routes, requester, urgency: 'anyway' } as const
        return await client.chain.content(request, signal)
      },
    }
  }

  #contentHealth(endpoint: Endpoint, routes: readonly Route[]): SourceHealth {
    const { health } = this.#client
    const endpoints = routes.map((route) => route.endpoint)
    const isLast = health.readiness(endpoint, 'content') === 'open'
    if (isLast || isProbedFirst(health, endpoint, endpoints, 'content')) return 'open'
    return health.rateLimits.isLimited(endpoint.host) ? 'limited' : 'ok'
  }

  /** Returns at least one. Throws an UpstreamError if the registry has none. */
  #routes(repo: Repository): Route[] {
    const endpoints = this.#registries.endpoints(repo.registry)
    if (endpoints.length > 0) return endpoints.map((endpoint) => this.#route(endpoint, repo))
    const what = `no endpoint for ${repo.registry}: add it to mirrors, or set defaultEndpoints`
    throw new UpstreamError('not-found', what, { endpoint: repo.registry })
  }

  #route(endpoint: Endpoint, repo: Repository): Route {
    const { name } = rewriteName(endpoint.rewrites, repo.name)
    // With "*" a client may name any host, but it must not make us ask our own network.
    const publicOnly = endpoint.isDefault && !this.#registries.names.includes(repo.registry)
    return { endpoint, name, publicOnly }
  }

  #sourceId({ endpoint, name }: Route, { credentials }: Requester): string {
    const settings = this.#client.settingsOf(endpoint)
    return [endpoint.key, name, settings, this.#credentialId(credentials)].join(' ')
  }

  /** Identifies the source of credentials. The credentials are looked up later and may change. */
  #credentialId(credentials: CredentialSource): number {
    const ids = this.#credentialIds
    const id = ids.of.get(credentials) ?? ++ids.last
    ids.of.set(credentials, id)
    return id
  }
}

interface DocumentOf {
  readonly repo: Repository
  readonly requester: Requester
  readonly signal: AbortSignal | undefined
}

/** The signal of a caller that waits to the end. */
function never(): AbortSignal {
  return new AbortController().signal
}
