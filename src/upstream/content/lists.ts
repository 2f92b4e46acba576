// Lists from one place: a page of tags, and all referrers of a manifest.
import { nextLink } from '../../http/link.ts'
import { readDescriptor } from '../../oci/descriptor.ts'
import type { Descriptor } from '../../oci/descriptor.ts'
import type { Digest } from '../../oci/digest.ts'
import { OCI_INDEX } from '../../oci/media-types.ts'
import { isTag } from '../../oci/reference.ts'
import { UpstreamError } from '../face/failure.ts'
import { parseObject } from '../../oci/json-object.ts'
import { ask, wrongAnswer } from '../client/place.ts'
import type { Place, Question } from '../client/place.ts'
import { readWhole } from '../network/read-body.ts'
import type { RegistryResponse } from '../client/request.ts'
import type { TagPage } from '../face/answers.ts'

/** Some 200,000 tags; reading more would hold up everybody. */
const MAX_TAGS_BYTES = 8 * 1024 * 1024
const MAX_REFERRER_PAGES = 20
const MAX_REFERRER_BYTES = 4 * 1024 * 1024

/** One page, as the upstream cuts them. `query`: raw, for the upstream. Throws UpstreamError. */
export async function getTags(place: Place, query: string, signal?: AbortSignal): Promise<TagPage> {
  const question = { method: 'GET', path: 'tags/list', accept: 'application/json' } as const
  const page = await getPage(place, { ...question, query, signal, kind: 'tags' }, MAX_TAGS_BYTES)
  const { tags } = page.json
  if (!Array.isArray(tags) && !('name' in page.json)) throw wrongList(place, 'tags')
  const list: unknown[] = Array.isArray(tags) ? tags : []
  const valid = list.filter((tag): tag is string => typeof tag === 'string' && isTag(tag))
  return { tags: valid, ...(page.next !== undefined && { next: page.next }) }
}

/** What registries without the referrers API answer it with; the specification knows 404 alone. */
const NO_SUCH_API = [400, 405, 501]

/**
 * All pages, unfiltered; what is beyond 20 pages or 4 MiB is left out. Throws UpstreamError:
 * not-found where the registry has no such API.
 */
export async function getReferrers(
  place: Place,
  digest: Digest,
  signal?: AbortSignal,
): Promise<{ manifests: Descriptor[] }> {
  try {
    return await getAllPages(place, digest, signal)
  } catch (error) {
    const status = error instanceof UpstreamError ? error.status : undefined
    if (!NO_SUCH_API.includes(status ?? 0)) throw error
    throw wrongAnswer(place, 'not-found', `it has no referrers API (${status})`)
  }
}

async function getAllPages(
  place: Place,
  digest: Digest,
  signal?: AbortSignal,
): Promise<{ manifests: Descriptor[] }> {
  const manifests: Descriptor[] = []
  let query: string | undefined
  let left = MAX_REFERRER_BYTES
  for (let pages = 0; pages < MAX_REFERRER_PAGES; pages++) {
    const path = `referrers/${digest}`
    const question = { method: 'GET', path, query, accept: OCI_INDEX, signal } as const
    const page = await getPage(place, { ...question, kind: 'referrers' }, left)
    const listed: unknown = page.json['manifests']
    if (!Array.isArray(listed)) throw wrongList(place, 'referrers')
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

async function getPage(place: Place, question: Question, maxBytes: number): Promise<Page> {
  const response = await ask(place, question)
  const bytes = await readWhole(response.body, maxBytes)
  if (bytes === undefined)
    throw wrongAnswer(place, 'too-large', `sends ${question.kind} of more than ${maxBytes} bytes`)
  const json = parseObject(bytes.toString())
  if (json === undefined) throw wrongList(place, question.kind)
  return { json, bytes: bytes.length, next: nextQuery(place, response) }
}

/** Only the query is taken from the link, and only if it leads to where it came from. */
function nextQuery(place: Place, response: RegistryResponse): string | undefined {
  const target = nextLink(response.headers['link'])
  if (target === undefined || !URL.canParse(target, response.url)) return undefined
  const url = new URL(target, response.url)
  // Behind proxies that end TLS, registries get scheme and port of their own links wrong.
  const isOwn = [place.endpoint.base.hostname, response.url.hostname].includes(url.hostname)
  return isOwn && url.search.length > 1 ? url.search.slice(1) : undefined
}

function wrongList(place: Place, kind: string): Error {
  const cure = 'check mirrors.<registry>.endpoint and its path'
  return wrongAnswer(place, 'protocol', `sends no list of ${kind} where one was asked for: ${cure}`)
}
