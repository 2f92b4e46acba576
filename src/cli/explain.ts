// `explain IMAGE`: shows which requests would go to which endpoint, and what the cache holds, without
// sending any. It uses the functions that serve requests, so that its answer cannot differ from theirs.
import { freshnessAt } from '../cache/policy/freshness.ts'
import type { Digest } from '../oci/digest.ts'
import { type ManifestSummary, readManifest } from '../oci/manifest.ts'
import { isRepositoryName, parseImage, type Repository } from '../oci/reference.ts'
import type { CredentialsSummary } from '../upstream/credentials/summary.ts'
import { type Endpoint, nameOnWire } from '../upstream/routing/endpoint.ts'
import type { Registries } from '../upstream/routing/registries.ts'
import { type Rewrite, rewriteName } from '../upstream/routing/rewrite.ts'

/** The settings of one upstream host, without secrets. */
export interface HostSummary {
  /** Absent if requests are anonymous. */
  readonly credentials?: CredentialsSummary
  readonly tls?: {
    readonly from: string
    readonly caFile?: string
    readonly certFile?: string
    readonly insecureSkipVerify?: boolean
  }
  /** Absent if no proxy is configured. */
  readonly proxy?: {
    /** The URL without its password, or `direct` if this host is exempt from a proxy. */
    readonly url: string
    /** The configuration key or the variable that sets it. */
    readonly from: string
  }
  /** The addresses to use instead of DNS. */
  readonly resolve?: readonly string[]
  /** The time limits that differ from the general ones. */
  readonly timeouts?: {
    readonly from: string
    readonly connectMs?: number
    readonly firstByteMs?: number
    readonly stallMs?: number
  }
}

/** How long a tag stays fresh, and the `freshness.rules` entry that applies, if any. */
export interface FreshnessSummary {
  readonly ttlMs: number
  readonly rule?: string
}

/** Reads the cache without changing it, not even the time of last use. */
export interface ExplainStore {
  tag(
    repository: Repository,
    tag: string,
  ): Promise<{ readonly digest: Digest; readonly checkedAt: number } | undefined>
  /** Returns the manifest, if the repository has a link to it. */
  manifest(
    repository: Repository,
    digest: Digest,
  ): Promise<{ readonly bytes: Uint8Array; readonly mediaType?: string } | undefined>
  blob(repository: Repository, digest: Digest): Promise<{ readonly size: number } | undefined>
}

export interface ExplainDeps {
  readonly registries: Pick<Registries, 'route' | 'endpoints' | 'names'>
  readonly defaultRegistry: string
  /** Returns the settings of a host. `byClient` is set if only the image names it, not the configuration. */
  readonly host: (endpoint: Endpoint, byClient: boolean) => HostSummary | Promise<HostSummary>
  readonly freshness: (repository: Repository, tag: string) => FreshnessSummary
  /** Without a store, the explanation does not say what is held. */
  readonly store?: ExplainStore
  /** The current time, in milliseconds since the epoch. */
  readonly now: number
}

export interface ExplainedRule {
  readonly pattern: string
  readonly replacement: string
}

export interface ExplainedEndpoint extends HostSummary {
  readonly endpoint: string
  /** Set for the registry's own endpoint, to which no rewrites apply. */
  readonly own: boolean
  /** The rule that changed the name. */
  readonly rule?: ExplainedRule
  /** Earlier rules that match, but whose result is not a repository name. */
  readonly passedOver: readonly (ExplainedRule & { readonly result: string })[]
  /** The repository's name at this endpoint. */
  readonly name: string
  /** The scope to ask a token for if the challenge names none. */
  readonly scope: string
  readonly url: string
}

export interface ExplainedManifest {
  readonly digest: Digest
  readonly mediaType: string
  /** In bytes. */
  readonly size: number
}

/** Counts what a manifest names directly: the blobs of an image, or the manifests of an index. */
export interface ExplainedParts {
  readonly of: 'blobs' | 'manifests'
  readonly held: number
  readonly named: number
}

export interface ExplainedHolding {
  /** `ageMs` is the time since the upstream was asked, negative if the clock was set back since. */
  readonly tag?: { readonly digest: Digest; readonly ageMs: number; readonly fresh: boolean }
  readonly manifest?: ExplainedManifest
  readonly parts?: ExplainedParts
}

export interface Explanation {
  readonly image: string
  readonly registry: string
  readonly repository: string
  readonly tag?: string
  readonly digest?: Digest
  /** Absent for an image with a digest, which never goes stale. */
  readonly freshness?: FreshnessSummary
  readonly endpoints: readonly ExplainedEndpoint[]
  readonly held?: ExplainedHolding
}

/**
 * Follows an image reference through routing, rewrites and configuration. Throws OciError if the text
 * is not an image reference, or if its registry is not served.
 */
export async function explain(image: string, deps: ExplainDeps): Promise<Explanation> {
  const parsed = parseImage(image, deps.defaultRegistry)
  const repository = routed(parsed.repository, deps)
  const { digest } = parsed
  // As in Docker, a digest wins over a tag.
  const tag = digest === undefined ? (parsed.tag ?? 'latest') : undefined
  const reference = digest ?? tag ?? 'latest'
  const endpoints = deps.registries
    .endpoints(repository.registry)
    .map((endpoint) => explainEndpoint(endpoint, repository, reference, deps))
  const held = deps.store && (await findHeld(deps.store, repository, { tag, digest }, deps))
  return {
    image,
    registry: repository.registry,
    repository: repository.name,
    ...(tag !== undefined && { tag, freshness: deps.freshness(repository, tag) }),
    ...(digest !== undefined && { digest }),
    endpoints: await Promise.all(endpoints),
    ...(held && { held }),
  }
}

/** Routes the repository like a request with `ns`, so that a refusal has the same message. */
function routed(repository: Repository, deps: ExplainDeps): Repository {
  const target = { kind: 'tags', name: repository.name } as const
  return deps.registries.route(target, { ns: repository.registry }).repository ?? repository
}

async function explainEndpoint(
  endpoint: Endpoint,
  repository: Repository,
  reference: string,
  deps: ExplainDeps,
): Promise<ExplainedEndpoint> {
  const { name, rule } = rewriteName(endpoint.rewrites, repository.name)
  const byClient = endpoint.isDefault && !deps.registries.names.includes(repository.registry)
  return {
    endpoint: endpoint.key,
    own: endpoint.isDefault,
    ...(rule && { rule: { pattern: rule.pattern, replacement: rule.replacement } }),
    passedOver: findPassedOver(endpoint.rewrites, rule, repository.name),
    name,
    scope: `repository:${nameOnWire(endpoint, name)}:pull`,
    url: `${endpoint.key}/${name}/manifests/${reference}`,
    ...(await deps.host(endpoint, byClient)),
  }
}

function findPassedOver(
  rules: readonly Rewrite[],
  applied: Rewrite | undefined,
  name: string,
): ExplainedEndpoint['passedOver'] {
  return rules
    .slice(0, applied && rules.indexOf(applied))
    .map((rule) => ({
      pattern: rule.pattern,
      replacement: rule.replacement,
      result: rule.apply(name),
    }))
    .filter(({ result }) => result !== name && !isRepositoryName(result))
}

async function findHeld(
  store: ExplainStore,
  repository: Repository,
  wanted: { tag: string | undefined; digest: Digest | undefined },
  deps: ExplainDeps,
): Promise<ExplainedHolding> {
  const entry = wanted.tag === undefined ? undefined : await store.tag(repository, wanted.tag)
  const digest = wanted.digest ?? entry?.digest
  const manifest = digest && (await store.manifest(repository, digest))
  const tag = wanted.tag !== undefined && entry && explainTag(repository, wanted.tag, entry, deps)
  if (digest === undefined || manifest === undefined) return tag ? { tag } : {}
  const summary = readManifest(manifest.bytes, manifest.mediaType)
  const mediaType = summary?.mediaType ?? manifest.mediaType ?? 'unknown'
  return {
    ...(tag && { tag }),
    manifest: { digest, mediaType, size: manifest.bytes.length },
    ...(summary && { parts: await countParts(store, repository, summary) }),
  }
}

function explainTag(
  repository: Repository,
  tag: string,
  { digest, checkedAt }: { readonly digest: Digest; readonly checkedAt: number },
  { freshness, now }: ExplainDeps,
): ExplainedHolding['tag'] & object {
  const settings = { ttlMs: freshness(repository, tag).ttlMs, staleWhileRevalidateMs: 0 }
  return {
    digest,
    ageMs: now - checkedAt,
    fresh: freshnessAt(checkedAt, settings, now) === 'fresh',
  }
}

async function countParts(
  store: ExplainStore,
  repository: Repository,
  { children, blobs }: Pick<ManifestSummary, 'children' | 'blobs'>,
): Promise<ExplainedParts> {
  const of = children.length > 0 ? 'manifests' : 'blobs'
  const digests = new Set((of === 'blobs' ? blobs : children).map((part) => part.digest))
  let held = 0
  for (const digest of digests) {
    const found =
      of === 'blobs'
        ? await store.blob(repository, digest)
        : await store.manifest(repository, digest)
    if (found !== undefined) held += 1
  }
  return { of, held, named: digests.size }
}
