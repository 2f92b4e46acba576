// The face of this room: a repository over its registry's endpoints in order, the next one on any
// failure; of several failures the least final decides.
import type { Descriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import type { Repository } from '../oci/reference.ts'
import { askAsEach } from './client/ask-as-each.ts'
import type { AskingAsEach } from './client/ask-as-each.ts'
import { getBlob, headBlob } from './content/blobs.ts'
import type { RegistryClient } from './client/client.ts'
import { CredentialError } from './credentials/configured.ts'
import type { CredentialSource } from './credentials/credentials.ts'
import { Deadline, waitFor } from './deadline.ts'
import type { Endpoint } from './routing/endpoint.ts'
import { leastFinal, UpstreamError } from './face/failure.ts'
import { getReferrers, getTags } from './content/lists.ts'
import { getManifest, headManifest } from './content/manifests.ts'
import type { UpstreamObserver } from './face/observer.ts'
import { NotAsked } from './health/not-asked.ts'
import { exhaustionOf } from '../process/own-fault.ts'
import type { Place, Question } from './client/place.ts'
import type { Requester, UpstreamFace } from './face/requester.ts'
import { rewriteName } from './routing/rewrite.ts'
import type { Lane } from './health/quotas.ts'
import type { Source, SourceHealth, SourceResponse } from './face/source.ts'
import type { FetchedManifest, ManifestHead, BlobHead, TagPage, Budget } from './face/answers.ts'

export interface UpstreamOptions {
  readonly registries: {
    endpoints(registry: string): readonly Endpoint[]
    /** Those with an entry of their own; the others are there by "*". */
    readonly names: readonly string[]
  }
  readonly client: RegistryClient
  readonly observer?: Pick<UpstreamObserver, 'upstreamFailure'> | undefined
  /** Its sources and this one's are known to be the same where they are. */
  readonly former?: Upstream | undefined
}

/** In the order in which to ask. */
const HEALTHS = ['ok', 'limited', 'open'] as const

/** One question to one endpoint, until its signal fires. */
type AskOne<T> = (place: Place, until: AbortSignal) => Promise<T>

/** One question for a document to one endpoint. */
interface DocumentAsking<T> {
  readonly kind: Question['kind']
  readonly endpoint: Endpoint
  readonly repo: Repository
  readonly requester: Requester
  readonly signal: AbortSignal | undefined
  readonly askOne: AskOne<T>
}

/** What a question is about. */
interface Asking {
  readonly kind: Question['kind']
  readonly lane: Lane
  readonly requester: Requester
}

export class Upstream implements UpstreamFace {
  readonly #registries: UpstreamOptions['registries']
  readonly #client: RegistryClient
  readonly #observer: UpstreamOptions['observer']
  readonly #numbers: { readonly of: WeakMap<CredentialSource, number>; last: number }

  constructor(options: UpstreamOptions) {
    this.#registries = options.registries
    this.#client = options.client
    this.#observer = options.observer
    const { former } = options
    this.#numbers = former === undefined ? { of: new WeakMap(), last: 0 } : former.#numbers
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
    const all = this.#endpoints(repo)
    const sources = all.map((endpoint) => this.#sourceAt(endpoint, all, repo, requester))
    return HEALTHS.flatMap((health) => sources.filter((source) => source.health === health))
  }

  /** What the registry still grants; undefined: it names no limit. */
  budget(repo: Repository): Budget | undefined {
    const { health } = this.#client
    const endpoints = this.#registries.endpoints(repo.registry)
    const asked =
      endpoints.find((endpoint) => health.stateOf(endpoint, 'metadata') !== 'open') ?? endpoints[0]
    return asked && health.rateLimits.budget(asked.host)
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
    const { health } = this.#client
    const endpoints = this.#endpoints(repo)
    const known = new Set(endpoints.map((endpoint) => health.lastFailure(endpoint)))
    const failures: UpstreamError[] = []
    const note = (error: unknown) => {
      signal?.throwIfAborted()
      if (!(error instanceof UpstreamError)) throw error
      failures.push(error)
      if (isNews(error) && !known.has(error)) this.#observer?.upstreamFailure(error, { kind })
    }
    const ask = async (endpoint: Endpoint) => {
      return await this.#askInTime({ kind, endpoint, repo, requester, signal, askOne })
    }
    this.#probeDue(endpoints, repo, 'metadata')
    const failing: Endpoint[] = []
    for (const endpoint of endpoints) {
      using admission = health.admit(endpoint, 'metadata')
      if (admission === undefined) {
        failing.push(endpoint)
        continue
      }
      try {
        return await ask(endpoint)
      } catch (error) {
        note(error)
      }
    }
    for (const endpoint of failing) {
      try {
        return await this.#askFailing(endpoint, failures, () => ask(endpoint), signal)
      } catch (error) {
        note(error)
      }
    }
    throw leastFinal(failures)
  }

  /**
   * Once another endpoint has given a final answer, the last failure of this one stands for it unless
   * it proves to work by now: else every request for what does not exist would wait for the
   * endpoint that is down.
   */
  async #askFailing<T>(
    endpoint: Endpoint,
    failures: readonly UpstreamError[],
    ask: () => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const { health } = this.#client
    if (!failures.some(isFinal)) return await health.lastResort(endpoint, ask, signal)
    using admission = await health.admitAfterTrial(endpoint, 'metadata', signal)
    const last = health.lastFailure(endpoint)
    if (admission === undefined && last !== undefined) throw last
    return await ask()
  }

  /** Probes in the background where another endpoint can help meanwhile: no request has to find out. */
  #probeDue(all: readonly Endpoint[], repo: Repository, lane: Lane): void {
    for (const endpoint of all) {
      if (!this.#isProbedFirst(endpoint, all, lane)) continue
      const admission = this.#client.health.admit(endpoint, lane)
      void this.#client
        .probe(endpoint, this.#isNamedByClient(endpoint, repo))
        .finally(() => admission?.[Symbol.dispose]())
    }
  }

  /** Whether a probe should ask this endpoint before any request does. */
  #isProbedFirst(endpoint: Endpoint, all: readonly Endpoint[], lane: Lane): boolean {
    const { health } = this.#client
    if (health.readiness(endpoint, lane) !== 'due') return false
    return all.some((other) => other !== endpoint && health.stateOf(other, lane) === 'ok')
  }

  #sourceAt(
    endpoint: Endpoint,
    all: readonly Endpoint[],
    repo: Repository,
    requester: Requester,
  ): Source {
    const client = this.#client
    const health = () => this.#contentHealth(endpoint, all)
    return {
      id: this.#idOf(endpoint, repo, requester),
      origin: endpoint.key,
      fetchOptions: client.fetchOptions(endpoint),
      get health() {
        return health()
      },
      get latencyMs() {
        return client.health.latencyMs(endpoint)
      },
      fetch: async (digest, range, signal) => {
        using held = new DisposableStack()
        const admission = held.use(client.health.admit(endpoint, 'content'))
        this.#probeDue(all, repo, 'content')
        const response = await this.#askAsEach({
          kind: 'blob',
          lane: 'content',
          requester,
          placeAt: (except) => this.#placeAt(endpoint, repo, requester, except, signal),
          ask: (place) => getBlob(place, digest, range, signal),
        })
        // Only its end shows whether the content works.
        return admission?.isTrial === true ? holding(held.move(), response) : response
      },
    }
  }

  #contentHealth(endpoint: Endpoint, all: readonly Endpoint[]): SourceHealth {
    const { health } = this.#client
    const isLast = health.readiness(endpoint, 'content') === 'open'
    if (isLast || this.#isProbedFirst(endpoint, all, 'content')) return 'open'
    return health.rateLimits.isLimited(endpoint.host) ? 'limited' : 'ok'
  }

  /** As whom we have most requests left, and where that is refused, as the next. */
  async #askAsEach<T>(asking: Pick<AskingAsEach<T>, 'placeAt' | 'ask'> & Asking): Promise<T> {
    const { placeAt, ask, kind, lane, requester } = asking
    return await askAsEach({
      placeAt,
      ask: async (place) => {
        this.#checkLimit(place, lane)
        return await ask(place)
      },
      unknown: ({ endpoint, credential }) =>
        requester.credentials.refused?.(endpoint.host, credential),
      hidden: (error) => this.#observer?.upstreamFailure(error, { kind }),
    })
  }

  /** Who told us to wait is not asked: it would answer the same, and count it. */
  #checkLimit({ endpoint, credential }: Place, lane: Lane): void {
    const { health } = this.#client
    const { rateLimits } = health
    health.checkPause(endpoint, lane)
    const waitMs = rateLimits.waitMs(endpoint, credential, lane)
    const isGuess = rateLimits.isGuess(endpoint, credential, lane)
    if (waitMs > 0) throw new NotAsked(endpoint, { ms: waitMs, isGuess })
  }

  /** One endpoint's document; the time limit covers everything, all credentials included. */
  async #askInTime<T>(asking: DocumentAsking<T>): Promise<T> {
    const { kind, endpoint, repo, requester, signal, askOne } = asking
    const { documentTimeoutMs: ms } = this.#client.limitsFor(endpoint)
    using deadline = new Deadline(ms, () => tooSlow(endpoint, ms), signal)
    const until = deadline.signal
    return await this.#askAsEach({
      kind,
      lane: 'metadata',
      requester,
      placeAt: (except) => this.#placeAt(endpoint, repo, requester, except, until),
      ask: (place) => askOne(place, until),
    })
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
    except: ReadonlySet<string>,
    signal: AbortSignal,
  ): Promise<Place> {
    const name = rewritten(endpoint, repo)
    const { key } = endpoint
    try {
      const publicOnly = this.#isNamedByClient(endpoint, repo)
      const seeker = { host: endpoint.host, byClient: publicOnly, except }
      const credential = await waitFor(credentials.credentialFor(seeker), signal)
      return { client: this.#client, endpoint, name, credential, cdnLoop, publicOnly }
    } catch (error) {
      const isOurs = exhaustionOf(error) !== undefined
      if (isOurs || !(error instanceof CredentialError)) throw error
      const reason = error.isTimeout ? 'timed-out' : 'bad-credentials'
      const details = { endpoint: key, cause: error }
      throw new UpstreamError(reason, `${key}: ${error.message}`, details)
    }
  }

  /** By "*" a client may name any host, but must not make us ask our own network. */
  #isNamedByClient(endpoint: Endpoint, repo: Repository): boolean {
    return endpoint.isDefault && !this.#registries.names.includes(repo.registry)
  }

  #idOf(endpoint: Endpoint, repo: Repository, { credentials }: Requester): string {
    const settings = this.#client.settingsOf(endpoint)
    return [endpoint.key, rewritten(endpoint, repo), settings, this.#numberOf(credentials)].join(
      ' ',
    )
  }

  /** Equal for equal sources; what they give is looked up later and may change. */
  #numberOf(credentials: CredentialSource): number {
    const numbers = this.#numbers
    const number = numbers.of.get(credentials) ?? ++numbers.last
    numbers.of.set(credentials, number)
    return number
  }
}

/** That something is not there is an answer, no failure; nor is it that we did not ask. */
function isNews(error: UpstreamError): boolean {
  return error.kind !== 'gone' && !(error instanceof NotAsked)
}

/** It would be the same the next time. */
function isFinal({ kind }: UpstreamError): boolean {
  return kind !== 'unavailable' && kind !== 'rate-limited'
}

function tooSlow({ key }: Endpoint, ms: number): UpstreamError {
  const cure = 'list another endpoint before it in mirrors.<registry>.endpoint'
  const what = `sent no whole answer in ${ms / 1000} s: ${cure}`
  return new UpstreamError('timed-out', `${key}: ${what}`, { endpoint: key })
}

/** The response, with `held` disposed of when its body has been read or is not wanted any more. */
function holding(held: DisposableStack, response: SourceResponse): SourceResponse {
  const { body } = response
  async function* read(): AsyncGenerator<Uint8Array> {
    using _ = held
    yield* body
  }
  const chunks = read()
  const discard = () => {
    held.dispose()
    body.discard()
  }
  return { ...response, body: { [Symbol.asyncIterator]: () => chunks, discard } }
}

function rewritten(endpoint: Endpoint, repo: Repository): string {
  return rewriteName(endpoint.rewrites, repo.name).name
}
