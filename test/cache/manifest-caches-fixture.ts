// The caches of manifests and lists over a real upstream, a real registry and a real store, with a clock
// of the test's own. What the caches report is recorded.
import type { FreshnessOptions } from '../../src/cache/policy/freshness.ts'
import { DEFAULT_FRESHNESS, FreshnessPolicy } from '../../src/cache/policy/freshness.ts'
import {
  createManifestCaches,
  type ManifestCaches,
  type ManifestCachesOptions,
} from '../../src/cache/manifest-caches.ts'
import type { CacheObserver } from '../../src/cache/observer.ts'
import type { StorageDriver } from '../../src/store/driver/driver.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import type { UpstreamError } from '../../src/upstream/face/failure.ts'
import {
  TestRegistry,
  type RegistryOptions,
  type RegistryRequestRecord,
} from '../support/registry.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import { REPO, upstreamOver } from '../upstream/upstream-fixture.ts'
import type { Requester } from '../../src/upstream/face/requester.ts'
import type { Upstream } from '../../src/upstream/upstream.ts'

export { REPO }
export const NAME = REPO.name

export interface CachesFixture extends AsyncDisposable {
  readonly registry: TestRegistry
  readonly requester: Requester
  readonly store: Store
  readonly observed: string[]
  /** The failures that the upstream reported. */
  readonly failures: readonly UpstreamError[]
  readonly clock: { now: number }
  caches: ManifestCaches
  /** A new process on the same directory: nothing is in memory, all that was written is there. */
  restart(): Promise<void>
  /** "GET latest", "HEAD sha256:…": the requests for manifests since the last call. */
  asked(): string[]
}

type AskedUpstream = ManifestCachesOptions['upstream']

export interface CachesFixtureOptions {
  readonly freshness?: Partial<FreshnessOptions>
  readonly registry?: RegistryOptions
  readonly driver?: StorageDriver
  /** The clock also advances on its own. */
  readonly runs?: boolean
  /** Returns the error that every request to the upstream throws, if there is one. */
  readonly fault?: () => Error | undefined
}

/** Longer than a test registry takes on a busy machine. */
const PATIENT_MS = 5000
/** For tests of upstreams that take longer than that. */
export const IMPATIENT = { freshness: { revalidateTimeoutMs: 150 } } as const

export async function openCaches(options: CachesFixtureOptions = {}): Promise<CachesFixture> {
  const registry = new TestRegistry(options.registry ?? {})
  await registry.listen()
  const directory = await temporaryDirectory()
  const clock = { now: 1_700_000_000_000 }
  const observed: string[] = []
  const settings = { ...DEFAULT_FRESHNESS, revalidateTimeoutMs: PATIENT_MS, ...options.freshness }
  const policy = new FreshnessPolicy(settings)
  const freshness = () => policy
  const { driver } = options
  const startedAt = performance.now()
  const now = () => clock.now + (options.runs === true ? performance.now() - startedAt : 0)
  const { upstream, requester, client, events } = upstreamOver([registry.url], { now })
  const asking = options.fault ? faulty(upstream, options.fault) : upstream
  const open = async () => {
    const store = await openStore({ directory: directory.path, ...(driver && { driver }) })
    const observer = recording(observed)
    return {
      store,
      caches: createManifestCaches({ upstream: asking, store, observer, freshness, now }),
    }
  }
  const first = await open()
  let seen = 0
  const fixture = {
    ...first,
    registry,
    requester,
    observed,
    failures: events.failures,
    clock,
    asked: () => {
      const requests = registry.requests.slice(seen).filter(({ kind }) => kind === 'manifest')
      seen = registry.requests.length
      return requests.map(asText)
    },
    restart: async () => {
      await fixture.caches.drain()
      await fixture.store.close()
      Object.assign(fixture, await open())
    },
    [Symbol.asyncDispose]: async () => {
      await registry.close()
      await fixture.caches.drain()
      await fixture.store.close()
      await client.close()
      await directory.remove()
    },
  }
  return fixture
}

function asText({ method, reference }: RegistryRequestRecord): string {
  return `${method} ${reference ?? ''}`
}

function recording(observed: string[]): CacheObserver {
  return {
    storeError: (operation) => void observed.push(`store: ${operation}`),
    staleServed: (reason) => void observed.push(`stale: ${reason}`),
    unexpectedError: (operation, error) => {
      observed.push(`unexpected: ${operation}: ${String(error)}`)
    },
  }
}

/** The upstream, but each question fails with `fault` while there is one. */
function faulty(upstream: Upstream, fault: () => Error | undefined): AskedUpstream {
  const unlessFaulty = async <T>(ask: () => Promise<T>): Promise<T> => {
    const error = fault()
    if (error !== undefined) throw error
    return await ask()
  }
  return {
    headManifest: (...asked) => unlessFaulty(() => upstream.headManifest(...asked)),
    getManifest: (...asked) => unlessFaulty(() => upstream.getManifest(...asked)),
    headBlob: (...asked) => unlessFaulty(() => upstream.headBlob(...asked)),
    tags: (...asked) => unlessFaulty(() => upstream.tags(...asked)),
    referrers: (...asked) => unlessFaulty(() => upstream.referrers(...asked)),
    budget: (repo) => upstream.budget(repo),
  }
}
