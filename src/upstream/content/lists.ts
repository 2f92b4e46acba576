// Lists at one endpoint: a page of tags, and all referrers of a manifest.
import { nextLink } from '../../http/link.ts'
import { readDescriptor } from '../../oci/descriptor.ts'
import type { Descriptor } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import { OCI_INDEX } from '../../oci/media-types.ts'
import { isTag } from '../../oci/reference.ts'
import { UpstreamError } from '../face/failure.ts'
import { parseObject } from '../../oci/json-object.ts'
import { ask, wrongAnswer } from '../client/session.ts'
import { readWhole } from '../network/read-body.ts'
import type { DocumentRequest, EndpointSession, RegistryResponse } from '../client/request.ts'
import type { TagPage } from '../face/answers.ts'

/** About 200,000 tags. Parsing more would block the event loop for too long. */
const MAX_TAGS_BYTES = 8 * 1024 * 1024
const MAX_REFERRER_PAGES = 20
const MAX_REFERRER_BYTES = 4 * 1024 * 1024

/** Gets one page of tags. `query` is the raw query string for the upstream. Rejects as links do. */
export async function getTags(
  session: EndpointSession,
  query: string,
  signal: AbortSignal,
): Promise<TagPage> {
  const json = { method: 'GET', path: 'tags/list', accept: 'application/json' } as const
  const request = { ...json, query, kind: 'tags' } as const
  const page = await getPage(session, request, MAX_TAGS_BYTES, signal)
  const { tags } = page.json
  if (!Array.isArray(tags) && !('name' in page.json)) throw wrongList(session, 'tags')
  const list: unknown[] = Array.isArray(tags) ? tags : []
  const valid = list.filter((tag): tag is string => typeof tag === 'string' && isTag(tag))
  return { tags: valid, ...(page.next !== undefined && { next: page.next }) }
}

/**
 * What registries without the referrers API answer, besides the 404 that the specification names.
 */
const NO_SUCH_API = [400, 405, 501]

/**
 * Gets all pages, unfiltered. Leaves out what is beyond 20 pages or 4 MiB. Rejects as links do, with
 * not-found if the registry has no referrers API.
 */
export async function getReferrers(
  session: EndpointSession,
  digest: Digest,
  signal: AbortSignal,
): Promise<{ manifests: Descriptor[] }> {
  try {
    return await getAllPages(session, digest, signal)
  } catch (error) {
    const status = error instanceof UpstreamError ? error.status : undefined
    if (!NO_SUCH_API.includes(status ?? 0)) throw error
    throw wrongAnswer(session, 'not-found', `it has no referrers API (${status})`)
  }
}

async function getAllPages(
  session: EndpointSession,
  digest: Digest,
  signal: AbortSignal,
): Promise<{ manifests: Descriptor[] }> {
  const manifests: Descriptor[] = []
  let query: string | undefined
  let left = MAX_REFERRER_BYTES
  for (let pages = 0; pages < MAX_REFERRER_PAGES; pages++) {
    const path = `referrers/${digest}`
    const request = { method: 'GET', path, query, accept: OCI_INDEX, kind: 'referrers' } as const
    const page = await getPage(session, request, left, signal)
    const listed: unknown = page.json['manifests']
    if (!Array.isArray(listed)) throw wrongList(session, 'referrers')
    manifests.push(...listed.map(readDescriptor).filter((found) => found !== undefined))
    left -= page.bytes
    if (page.next === undefined || page.next === query || left <= 0) break
    query = page.next
  }
  return { manifests }
}

interface Page {
  readonly json: Record<string, unknown>
  readonly bytes: number
  readonly next: string | undefined
}

async function getPage(
  session: EndpointSession,
  request: DocumentRequest,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Page> {
  const response = await ask(session, request, signal)
  const bytes = await readWhole(response.body, maxBytes)
  if (bytes === undefined)
    throw wrongAnswer(session, 'too-large', `sends ${request.kind} of more than ${maxBytes} bytes`)
  const json = parseObject(bytes.toString())
  if (json === undefined) throw wrongList(session, request.kind)
  return { json, bytes: bytes.length, next: nextQuery(session, response) }
}

/**
 * Takes only the query from the link, and only if the link leads to the endpoint or to who
 * answered.
 */
function nextQuery(session: EndpointSession, response: RegistryResponse): string | undefined {
  const target = nextLink(response.headers['link'])
  if (target === undefined || !URL.canParse(target, response.url)) return undefined
  const url = new URL(target, response.url)
  // Registries behind proxies that end TLS write wrong schemes and ports into their own links.
  const isOwn = [session.endpoint.base.hostname, response.url.hostname].includes(url.hostname)
  return isOwn && url.search.length > 1 ? url.search.slice(1) : undefined
}

function wrongList(session: EndpointSession, kind: string): Error {
  const cure = 'check mirrors.<registry>.endpoint and its path'
  return wrongAnswer(
    session,
    'protocol',
    `sends no list of ${kind} where one was asked for: ${cure}`,
  )
}
