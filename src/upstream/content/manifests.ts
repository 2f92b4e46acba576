// Manifests at one endpoint: a GET, verified, or a HEAD.
import { algorithmOf, digestOf, parseDigest } from '../../oci/digest.ts'
import type { Digest } from '../../oci/digest.ts'
import { MAX_MANIFEST_BYTES, readManifest } from '../../oci/manifest.ts'
import { ACCEPT_MANIFESTS, bareType, isManifestType } from '../../oci/media-types.ts'
import { UpstreamError } from '../face/failure.ts'
import { ask, headerOf, lengthOf, wrongAnswer } from '../client/session.ts'
import { readWhole } from '../network/read-body.ts'
import type { EndpointSession, RegistryResponse } from '../client/request.ts'
import type { FetchedManifest, ManifestHead } from '../face/answers.ts'

const CHECK = 'check mirrors.<registry>.endpoint and its path, and proxies on the way'

/**
 * Gets and verifies the manifest of a tag or digest. Rejects as links do; with too-large beyond
 * MAX_MANIFEST_BYTES.
 */
export async function getManifest(
  session: EndpointSession,
  reference: string,
  signal: AbortSignal,
): Promise<FetchedManifest> {
  const response = await askFor(session, 'GET', reference, signal)
  const bytes = await readBounded(session, response)
  const { digest, mediaType } = identify(session, reference, response, bytes)
  return { digest, mediaType, bytes, endpoint: session.endpoint.key, grantedBy: response.grantedBy }
}

/**
 * Statuses with which registries refuse HEAD for what they give by GET. The reason of a 403 is in
 * the body, which HEAD lacks.
 */
const HEAD_REFUSED = [400, 403, 404, 405, 501]

/** Sends HEAD, or GET if HEAD is refused or its answer says too little. Rejects as links do. */
export async function headManifest(
  session: EndpointSession,
  reference: string,
  signal: AbortSignal,
): Promise<ManifestHead | FetchedManifest> {
  const head = await tryHead(session, reference, signal)
  return head ?? (await getManifest(session, reference, signal))
}

async function tryHead(
  session: EndpointSession,
  reference: string,
  signal: AbortSignal,
): Promise<ManifestHead | undefined> {
  try {
    const response = await askFor(session, 'HEAD', reference, signal)
    response.body.discard()
    return readHead(session, reference, response)
  } catch (error) {
    if (error instanceof UpstreamError && error.reason !== 'blocked') {
      if (HEAD_REFUSED.includes(error.status ?? 0)) return undefined
    }
    throw error
  }
}

/** Returns undefined if the headers lack what a client needs, or cannot be right. */
function readHead(
  session: EndpointSession,
  reference: string,
  response: RegistryResponse,
): ManifestHead | undefined {
  const digest = parseDigest(headerOf(response, 'docker-content-digest') ?? '')
  const mediaType = bareType(headerOf(response, 'content-type'))
  const size = lengthOf(response)
  if (digest === undefined || mediaType === undefined || !isManifestType(mediaType))
    return undefined
  // Some proxies say 0 when they do not know the length.
  if (size === undefined || size === 0) return undefined
  const requested = parseDigest(reference)
  if (requested !== undefined && requested !== digest) return undefined
  return { digest, mediaType, size, endpoint: session.endpoint.key, grantedBy: response.grantedBy }
}

function askFor(
  session: EndpointSession,
  method: 'GET' | 'HEAD',
  reference: string,
  signal: AbortSignal,
): Promise<RegistryResponse> {
  const path = `manifests/${reference}`
  return ask(session, { method, path, accept: ACCEPT_MANIFESTS, kind: 'manifest' }, signal)
}

async function readBounded(session: EndpointSession, response: RegistryResponse): Promise<Buffer> {
  const { body } = response
  const isTooLong = (lengthOf(response) ?? 0) > MAX_MANIFEST_BYTES
  if (isTooLong) body.discard()
  const bytes = isTooLong ? undefined : await readWhole(body, MAX_MANIFEST_BYTES)
  if (bytes !== undefined) return bytes
  const what = `sends a manifest of more than ${MAX_MANIFEST_BYTES} bytes, which no client takes`
  throw wrongAnswer(session, 'too-large', `${what}: ${CHECK}`)
}

/**
 * Returns digest and type of the bytes, verified against the digest asked for or else the header's.
 */
function identify(
  session: EndpointSession,
  reference: string,
  response: RegistryResponse,
  bytes: Buffer,
): { digest: Digest; mediaType: string } {
  const type = headerOf(response, 'content-type')
  const summary = readManifest(bytes, type)
  const expected =
    parseDigest(reference) ?? parseDigest(headerOf(response, 'docker-content-digest') ?? '')
  const actual = digestOf(bytes, expected && algorithmOf(expected))
  const isUnchecked = expected === undefined || summary?.schema1 === true
  if (!isUnchecked && actual !== expected && summary !== undefined) {
    const what = `sends ${actual} for manifest ${reference}, which should be ${expected}`
    throw wrongAnswer(session, 'wrong-digest', `${what}: ${CHECK}`)
  }
  if (summary !== undefined) return { digest: expected ?? actual, mediaType: summary.mediaType }
  const what =
    bareType(type) === 'text/html'
      ? 'a web page'
      : `something that is not a manifest (${String(bareType(type))})`
  throw wrongAnswer(session, 'not-a-manifest', `sends ${what} for manifest ${reference}: ${CHECK}`)
}
