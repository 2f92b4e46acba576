// Manifests from one place: fetched and verified, or asked for by HEAD.
import { algorithmOf, digestOf, parseDigest } from '../../oci/digest.ts'
import type { Digest } from '../../oci/digest.ts'
import { MAX_MANIFEST_BYTES, readManifest } from '../../oci/manifest.ts'
import { ACCEPT_MANIFESTS, bareType, isManifestType } from '../../oci/media-types.ts'
import { UpstreamError } from '../face/failure.ts'
import { ask, headerOf, lengthOf, wrongAnswer } from '../client/place.ts'
import type { Place } from '../client/place.ts'
import { readWhole } from '../network/read-body.ts'
import type { RegistryResponse } from '../client/request.ts'
import type { FetchedManifest, ManifestHead } from '../face/answers.ts'

const CHECK = 'check mirrors.<registry>.endpoint and its path, and proxies on the way'

/** `reference`: a tag or a digest. Throws UpstreamError; too-large beyond MAX_MANIFEST_BYTES. */
export async function getManifest(
  place: Place,
  reference: string,
  signal?: AbortSignal,
): Promise<FetchedManifest> {
  const response = await askFor(place, 'GET', reference, signal)
  const bytes = await readBounded(place, response)
  const { digest, mediaType } = identify(place, reference, response, bytes)
  return { digest, mediaType, bytes, endpoint: place.endpoint.key, grantedBy: response.grantedBy }
}

/** Statuses with which registries refuse HEAD on what they give by GET; a 403's reason is in its body. */
const HEAD_REFUSED = [400, 403, 404, 405, 501]

/** HEAD, or GET where that is refused or says too little. Throws UpstreamError. */
export async function headManifest(
  place: Place,
  reference: string,
  signal?: AbortSignal,
): Promise<ManifestHead | FetchedManifest> {
  const head = await tryHead(place, reference, signal)
  return head ?? (await getManifest(place, reference, signal))
}

async function tryHead(
  place: Place,
  reference: string,
  signal?: AbortSignal,
): Promise<ManifestHead | undefined> {
  try {
    const response = await askFor(place, 'HEAD', reference, signal)
    response.body.discard()
    return readHead(place, reference, response)
  } catch (error) {
    if (error instanceof UpstreamError && error.reason !== 'blocked') {
      if (HEAD_REFUSED.includes(error.status ?? 0)) return undefined
    }
    throw error
  }
}

/** Undefined: it lacks what a client needs, or cannot be right. */
function readHead(
  place: Place,
  reference: string,
  response: RegistryResponse,
): ManifestHead | undefined {
  const digest = parseDigest(headerOf(response, 'docker-content-digest') ?? '')
  const mediaType = bareType(headerOf(response, 'content-type'))
  const size = lengthOf(response)
  if (digest === undefined || mediaType === undefined || !isManifestType(mediaType))
    return undefined
  // Proxies in between say 0 for a length they do not know.
  if (size === undefined || size === 0) return undefined
  const requested = parseDigest(reference)
  if (requested !== undefined && requested !== digest) return undefined
  return { digest, mediaType, size, endpoint: place.endpoint.key, grantedBy: response.grantedBy }
}

function askFor(
  place: Place,
  method: 'GET' | 'HEAD',
  reference: string,
  signal: AbortSignal | undefined,
): Promise<RegistryResponse> {
  const path = `manifests/${reference}`
  return ask(place, { method, path, accept: ACCEPT_MANIFESTS, signal, kind: 'manifest' })
}

async function readBounded(place: Place, response: RegistryResponse): Promise<Buffer> {
  const { body } = response
  const isTooLong = (lengthOf(response) ?? 0) > MAX_MANIFEST_BYTES
  if (isTooLong) body.discard()
  const bytes = isTooLong ? undefined : await readWhole(body, MAX_MANIFEST_BYTES)
  if (bytes !== undefined) return bytes
  const what = `sends a manifest of more than ${MAX_MANIFEST_BYTES} bytes, which no client takes`
  throw wrongAnswer(place, 'too-large', `${what}: ${CHECK}`)
}

/** Digest and type of what came: verified against the digest asked for, else the header's. */
function identify(
  place: Place,
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
    throw wrongAnswer(place, 'wrong-digest', `${what}: ${CHECK}`)
  }
  if (summary !== undefined) return { digest: expected ?? actual, mediaType: summary.mediaType }
  const what =
    bareType(type) === 'text/html' ? 'a web page' : `what is none (${String(bareType(type))})`
  throw wrongAnswer(place, 'not-a-manifest', `sends ${what} for manifest ${reference}: ${CHECK}`)
}
