// GET and HEAD of a manifest (distribution-spec, end-3): the exact bytes under their exact type.
import { noneMatch } from '../http/conditions.ts'
import { parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { isTag } from '../oci/reference.ts'
import type { Caches } from '../cache/caches.ts'
import type { Exchange } from './exchange.ts'
import type { RoutedRepository } from './routing.ts'

export async function answerManifest(
  caches: Caches,
  exchange: Exchange,
  routed: RoutedRepository,
  reference: string,
): Promise<void> {
  checkReference(reference)
  const read = exchange.isHead ? 'head' : 'get'
  const served = await caches.manifests[read](routed.repository, reference, routed.requester)
  const etag = `"${served.digest}"`
  const headers = {
    'docker-content-digest': served.digest,
    etag,
    'oci-namespace': routed.ns ?? routed.registry,
    ...exchange.cacheHeaders(served.cache),
  }
  if (!noneMatch(exchange.header('if-none-match'), etag)) return exchange.respond(304, headers)
  const type = { 'content-type': served.mediaType }
  if (exchange.isHead) {
    return exchange.respond(200, { ...headers, ...type, 'content-length': served.size })
  }
  exchange.respond(200, { ...headers, ...type }, served.bytes)
}

// An illegal tag is unknown, not a bad request: the conformance suite expects 404.
function checkReference(reference: string): void {
  if (reference.includes(':')) {
    if (parseDigest(reference) === undefined) throw new OciError('DIGEST_INVALID')
  } else if (!isTag(reference)) {
    throw new OciError('MANIFEST_UNKNOWN', 'this is not a valid tag, so no manifest has it')
  }
}
