// The routes that build JSON: ping, catalog, tags and referrers (distribution-spec, end-1, end-8,
// end-12; _catalog is Docker's).
import { formatNextLink } from '../http/link.ts'
import { parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { OCI_INDEX } from '../oci/media-types.ts'
import type { Caches } from '../cache/caches.ts'
import type { Exchange } from './exchange.ts'
import type { Routed, RoutedRepository } from './routing.ts'
import { pageSize, queryValue, withoutParameter } from './query.ts'

const JSON_TYPE = 'application/json'
const CATALOG_PAGE = 100
const LARGEST_CATALOG_PAGE = 10_000
const EMPTY_OBJECT = Buffer.from('{}')

export function answerPing(exchange: Exchange): void {
  exchange.respond(200, { 'content-type': JSON_TYPE }, EMPTY_OBJECT)
}

/** Lists the repositories in the cache, not those of the upstream. `last` is exclusive. */
export async function answerCatalog(
  caches: Caches,
  exchange: Exchange,
  routed: Routed,
): Promise<void> {
  const size = Math.min(pageSize(exchange.query) ?? CATALOG_PAGE, LARGEST_CATALOG_PAGE)
  const last = queryValue(exchange.query, 'last')
  const all = await caches.catalog.repositories(routed.named ? routed.registry : undefined)
  const rest = last === undefined ? all : all.filter((name) => name > last)
  const repositories = rest.slice(0, size)
  const headers: Record<string, string> = { 'content-type': JSON_TYPE }
  const final = repositories.at(-1)
  if (final !== undefined && repositories.length < rest.length) {
    const next = `n=${size}&last=${encodeURIComponent(final)}`
    headers['link'] = nextPage(exchange, routed, '_catalog', next)
  }
  exchange.respond(200, headers, json({ repositories }))
}

/** Answers with the repository name and path that the client used, not those of the upstream. */
export async function answerTags(
  caches: Caches,
  exchange: Exchange,
  routed: RoutedRepository,
): Promise<void> {
  pageSize(exchange.query)
  const query = withoutParameter(exchange.query, 'ns')
  const { tags, next, cache } = await caches.tags.list(routed.repository, query, routed.requester)
  const headers: Record<string, string | number> = {
    'content-type': JSON_TYPE,
    'oci-namespace': routed.ns ?? routed.registry,
    ...exchange.cacheHeaders(cache),
  }
  if (next !== undefined) {
    headers['link'] = nextPage(exchange, routed, `${routed.clientName}/tags/list`, next)
  }
  exchange.respond(200, headers, json({ name: routed.clientName, tags }))
}

export async function answerReferrers(
  caches: Caches,
  exchange: Exchange,
  routed: RoutedRepository,
  text: string,
): Promise<void> {
  const digest = parseDigest(text)
  if (digest === undefined) throw new OciError('DIGEST_INVALID')
  const { manifests, cache } = await caches.referrers.list(
    routed.repository,
    digest,
    routed.requester,
  )
  const type = queryValue(exchange.query, 'artifactType')
  const headers: Record<string, string | number> = {
    'content-type': OCI_INDEX,
    'oci-namespace': routed.ns ?? routed.registry,
    ...exchange.cacheHeaders(cache),
  }
  if (type !== undefined) headers['oci-filters-applied'] = 'artifactType'
  const wanted = manifests.filter((each) => type === undefined || each.artifactType === type)
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: wanted }
  exchange.respond(200, headers, json(index))
}

function nextPage(exchange: Exchange, routed: Routed, path: string, query: string): string {
  const ns = queryValue(exchange.query, 'ns')
  const suffix = ns === undefined ? '' : `&ns=${encodeURIComponent(ns)}`
  return formatNextLink(`${routed.clientPrefix}/v2/${path}?${query}${suffix}`)
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
