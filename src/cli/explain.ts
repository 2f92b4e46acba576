// `explain IMAGE`: what would be asked of whom, and what is held, without asking anybody. It takes
// the very functions that serve requests, so that it cannot tell another story than they do.
import { freshnessAt } from '../cache/policy/freshness.ts'
import type { Digest } from '../oci/digest.ts'
import { type ManifestSummary, readManifest } from '../oci/manifest.ts'
import { isRepositoryName, parseImage, type Repository } from '../oci/reference.ts'
import type { CredentialsSummary } from '../upstream/credentials/summary.ts'
import { type Endpoint, nameOnWire } from '../upstream/routing/endpoint.ts'
import type { Registries } from '../upstream/routing/registries.ts'
import { type Rewrite, rewriteName } from '../upstream/routing/rewrite.ts'

/** What the configuration says about one upstream host. Holds no secret. */
export interface HostSummary {
  /** Absent: anonymous. */
  readonly credentials?: CredentialsSummary
  readonly tls?: {
    readonly from: string
    readonly caFile?: string
    readonly certFile?: string
    readonly insecureSkipVerify?: boolean
  }
  /** Absent: none. */
  readonly proxy?: {
    /** Without its password; `direct`: none, though one is set for others. */
    readonly url: string
    /** A key of the configuration, or a variable. */
    readonly from: string
  }
  /** Addresses used instead of DNS. */
  readonly resolve?: readonly string[]
  /** Where they are other than for all. */
  readonly timeouts?: {
    readonly from: string
    readonly connectMs?: number
    readonly firstByteMs?: number
    readonly stallMs?: number
  }
}

/** For how long a tag's answer holds, and the `freshness.rules` entry that says so, if one does. */
export interface FreshnessSummary {
  readonly ttlMs: number
  readonly rule?: string
}

/** What is held, read without changing it (no "last used" either). */
export interface ExplainStore {
  tag(
    repository: Repository,
    tag: string,
  ): Promise<{ readonly digest: Digest; readonly checkedAt: number } | undefined>
  /** The manifest, if the repository has a link to it. */
  manifest(
    repository: Repository,
    digest: Digest,
  ): Promise<{ readonly bytes: Uint8Array; readonly mediaType?: string } | undefined>
  blob(repository: Repository, digest: Digest): Promise<{ readonly size: number } | undefined>
}

export interface ExplainDeps {
  readonly registries: Pick<Registries, 'route' | 'endpoints' | 'names'>
  readonly defaultRegistry: string
  /** `byClient`: it is asked only because an image names it. */
  readonly host: (endpoint: Endpoint, byClient: boolean) => HostSummary | Promise<HostSummary>
  readonly freshness: (repository: Repository, tag: string) => FreshnessSummary
  /** Absent: what is held is not said. */
  readonly store?: ExplainStore
  /** Milliseconds. */
  readonly now: number
}

export interface ExplainedRule {
  readonly pattern: string
  readonly replacement: string
}

export interface ExplainedEndpoint extends HostSummary {
  readonly endpoint: string
  /** The registry's own, where no rewrite applies. */
  readonly own: boolean
  /** The rule that changed the name. */
  readonly rule?: ExplainedRule
  /** Rules before it that match, but whose result is no repository name. */
  readonly passedOver: readonly (ExplainedRule & { readonly result: string })[]
  /** The name at this endpoint. */
  readonly name: string
  /** The one scope a token is asked for where the challenge names none. */
  readonly scope: string
  readonly url: string
}

export interface ExplainedManifest {
  readonly digest: Digest
  readonly mediaType: string
  /** In bytes. */
  readonly size: number
}

/** Of what a manifest names directly: the blobs of an image, the manifests of an index. */
export interface ExplainedParts {
  readonly of: 'blobs' | 'manifests'
  readonly held: number
  readonly named: number
}

export interface ExplainedHolding {
  /** `ageMs`: since the upstream was asked; negative when the clock went back since. */
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
  /** Absent for a digest, which never goes stale. */
  readonly freshness?: FreshnessSummary
  readonly endpoints: readonly ExplainedEndpoint[]
  readonly held?: ExplainedHolding
}

/**
 * Follows an image reference through routing, rewrites and configuration. Throws OciError for what
 * is no reference and for a registry that is not served.
 */
export async function explain(image: string, deps: ExplainDeps): Promise<Explanation> {
  const parsed = parseImage(image, deps.defaultRegistry)
  const repository = routed(parsed.repository, deps)
  const { digest } = parsed
  // As docker does: a digest decides, whatever tag stands beside it.
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

/** Asked as a client with `ns` asks, so that what is refused is refused in the same words. */
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
