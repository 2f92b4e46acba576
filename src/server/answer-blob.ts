// GET and HEAD of a blob (distribution-spec, end-2): opens the content, decides what to send of it, and
// hands it to the content sender.
import type { Content } from '../cache/content.ts'
import type { CacheOutcome } from '../http/cache-status.ts'
import { noneMatch } from '../http/conditions.ts'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { BLOB_TYPE, type BlobBody, planBlobBody, probeSize } from './blob-body.ts'
import type { ContentSender } from './content-sender.ts'
import type { Caches } from '../cache/caches.ts'
import type { Exchange } from './exchange.ts'
import type { RoutedRepository } from './routing.ts'
import { untilSized } from './known-size.ts'

/**
 * How long the head of a response waits for the first byte of its body: until the head is sent, a
 * failure can still be answered with a status. containerd 2.3 gives up on a head after 30 s.
 */
const HEAD_PATIENCE_MS = 10_000

export async function answerBlob(
  caches: Caches,
  sender: ContentSender,
  exchange: Exchange,
  routed: RoutedRepository,
  text: string,
): Promise<void> {
  const digest = parseDigest(text)
  if (digest === undefined) throw new OciError('DIGEST_INVALID')
  const fresh = !noneMatch(exchange.header('if-none-match'), `"${digest}"`)
  if (exchange.isHead || fresh) return answerHead(caches, exchange, routed, digest, fresh)
  const { content, cache } = await caches.blobs.open(routed.repository, digest, routed.requester)
  try {
    await sendBlob(sender, exchange, routed, content, cache)
  } finally {
    await content.close()
  }
}

// An unknown size is left out: containerd would take 0 for an empty blob.
async function answerHead(
  caches: Caches,
  exchange: Exchange,
  routed: RoutedRepository,
  digest: Digest,
  fresh: boolean,
): Promise<void> {
  const { size, cache } = await caches.blobs.head(routed.repository, digest, routed.requester)
  const headers = commonHeaders(exchange, routed, digest, cache)
  if (fresh) return exchange.respond(304, headers)
  const length = size === undefined ? {} : { 'content-length': size, 'accept-ranges': 'bytes' }
  exchange.respond(200, { ...headers, 'content-type': BLOB_TYPE, ...length })
}

async function sendBlob(
  sender: ContentSender,
  exchange: Exchange,
  routed: RoutedRepository,
  content: Content,
  cache: CacheOutcome,
): Promise<void> {
  const body = await openBody(exchange, content)
  const common = commonHeaders(exchange, routed, content.digest, cache)
  exchange.writeHead(body.status, { ...common, ...body.headers })
  const { res, gone } = exchange
  if (firstAvailable(content, body) === 0) res.flushHeaders()
  await sender.send({ res, content, body: body.stretches, gone }, (bytes) => {
    exchange.bytes = bytes
  })
}

// Waits for the first byte before it decides: by then an unknown size is often known, and a size that an
// upstream claimed may have proved wrong.
async function openBody(exchange: Exchange, content: Content): Promise<BlobBody> {
  const request = {
    range: exchange.header('range'),
    ifRange: exchange.header('if-range'),
    etag: `"${content.digest}"`,
  }
  let patience: AbortSignal | undefined
  let hasProbed = false
  for (;;) {
    if (content.size === undefined && !exchange.canChunk) {
      content.plan(undefined)
      await untilSized(content, exchange.gone)
    }
    const { size } = content
    const probe: BlobBody | undefined =
      content.isSizeClaimed && !hasProbed ? probeSize(request, size) : undefined
    const body = probe ?? planBlobBody(request, size)
    content.plan(body.ranges)
    if (firstAvailable(content, body) === 0) {
      patience ??= AbortSignal.any([AbortSignal.timeout(HEAD_PATIENCE_MS), exchange.impatience])
      await firstByte(content, body, exchange.gone, patience)
    }
    hasProbed ||= probe !== undefined
    if (content.size !== size || probe) continue
    content.promise()
    return body
  }
}

async function firstByte(
  content: Content,
  { ranges }: BlobBody,
  gone: AbortSignal,
  patience: AbortSignal,
): Promise<void> {
  try {
    await content.wait(ranges?.[0]?.start ?? 0, AbortSignal.any([gone, patience]))
  } catch (error) {
    if (!patience.aborted || gone.aborted) throw error
  }
}

function firstAvailable(content: Content, body: BlobBody): number {
  return content.available(body.ranges?.[0]?.start ?? 0)
}

function commonHeaders(
  exchange: Exchange,
  routed: RoutedRepository,
  digest: Digest,
  cache: CacheOutcome,
): Record<string, string | number> {
  return {
    'docker-content-digest': digest,
    etag: `"${digest}"`,
    'oci-namespace': routed.ns ?? routed.registry,
    ...exchange.cacheHeaders(cache),
  }
}
