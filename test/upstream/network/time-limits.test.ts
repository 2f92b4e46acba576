// How long an upstream can hold a request that goes on and on without ever standing still.
import type { Socket } from 'node:net'
import { createServer, type AddressInfo } from 'node:net'
import { describe, expect, test } from 'vitest'

import { digestOf } from '../../../src/oci/digest.ts'
import type { Requester } from '../../../src/upstream/face/requester.ts'
import { startRegistry } from '../../support/registry.ts'
import { collect, failureOf, REPO, SHORT_LIMITS, upstreamOver } from '../upstream-fixture.ts'
import type { Upstream } from '../../../src/upstream/upstream.ts'

const limits = { ...SHORT_LIMITS, documentTimeoutMs: 300 }
const DIGEST = digestOf(Buffer.from('x'))
/** Never still for as long as the stall limit. */
const DRIP = { bytes: 1, everyMs: 20 }
const LONG = `{"tags":[${' '.repeat(1000)}]}`

const DOCUMENTS: Record<string, (upstream: Upstream, who: Requester) => Promise<unknown>> = {
  'a manifest': (upstream, who) => upstream.getManifest(REPO, 'latest', who),
  'HEAD of a manifest': (upstream, who) => upstream.headManifest(REPO, 'latest', who),
  tags: (upstream, who) => upstream.tags(REPO, '', who),
  referrers: (upstream, who) => upstream.referrers(REPO, DIGEST, who),
}

describe.concurrent('a document that comes drop by drop', () => {
  test.each(Object.entries(DOCUMENTS))('is abandoned: %s', async (_, ask) => {
    await using registry = await startRegistry()
    registry.fault({ match: { method: 'HEAD' }, status: 405 })
    registry.fault({ status: 200, body: LONG, drip: DRIP })
    await using at = upstreamOver([registry.url], { limits })
    const startedAt = Date.now()
    const failure = await failureOf(ask(at.upstream, at.requester))
    expect(failure).toMatchObject({ reason: 'timed-out', kind: 'unavailable' })
    expect(failure.message).toMatch(/0\.3 s.*mirrors/)
    expect(Date.now() - startedAt).toBeLessThan(1500)
  })

  test('leaves its time to the next endpoint', async () => {
    await using slow = await startRegistry()
    await using good = await startRegistry()
    const image = good.addImage('library/alpine', 'latest')
    slow.fault({ status: 200, body: LONG, drip: DRIP })
    good.fault({ delayMs: 150 })
    await using at = upstreamOver([slow.url, good.url], { limits })
    const manifest = await at.upstream.getManifest(REPO, 'latest', at.requester)
    expect(manifest.digest).toBe(image.digest)
  })

  test('has one limit for all its redirects and pages together', async () => {
    await using registry = await startRegistry()
    const headers = { link: '<?p=1>; rel="next"' }
    registry.fault({
      match: { kind: 'referrers', nth: 1 },
      delayMs: 200,
      status: 200,
      headers,
      body: '{"manifests":[]}',
    })
    registry.fault({
      match: { kind: 'referrers' },
      delayMs: 200,
      status: 200,
      body: '{"manifests":[]}',
    })
    registry.fault({
      match: { kind: 'manifest' },
      delayMs: 200,
      redirect: `${registry.url}/v2/x/manifests/latest`,
    })
    await using at = upstreamOver([registry.url], { limits })
    const pages = failureOf(at.upstream.referrers(REPO, DIGEST, at.requester))
    const hops = failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect((await pages).reason).toBe('timed-out')
    expect((await hops).reason).toBe('timed-out')
  })

  test("ends with the caller's reason once the caller has left", async () => {
    await using registry = await startRegistry()
    registry.fault({ status: 200, body: LONG, drip: DRIP })
    await using at = upstreamOver([registry.url], { limits })
    const left = AbortSignal.timeout(100)
    const asked = at.upstream.getManifest(REPO, 'latest', at.requester, left)
    const reason = await asked.catch((error: unknown) => error)
    expect(reason).toBe(left.reason)
  })
})

test.concurrent('a blob may take its time', async () => {
  await using registry = await startRegistry()
  const content = Buffer.alloc(40, 'a')
  const { digest } = registry.addBlob(content)
  registry.fault({ drip: { bytes: 1, everyMs: 20 } })
  await using at = upstreamOver([registry.url], { limits })
  const startedAt = Date.now()
  const [source] = at.upstream.blobSources(REPO, at.requester)
  const { body } = await source!.fetch(digest, 0, new AbortController().signal)
  expect((await collect(body)).equals(content)).toBe(true)
  expect(Date.now() - startedAt).toBeGreaterThan(limits.documentTimeoutMs)
})

test.concurrent('a registry that says again and again that it is about to answer is abandoned', async () => {
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => undefined)
    const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'), 10)
    socket.on('close', () => clearInterval(timer))
  })
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening))
  await using at = upstreamOver([`http://127.0.0.1:${(server.address() as AddressInfo).port}`])
  const [source] = at.upstream.blobSources(REPO, at.requester)
  const fetched = source!.fetch(DIGEST, 0, AbortSignal.timeout(4000))
  expect(await failureOf(fetched)).toMatchObject({ reason: 'protocol' })
  for (const socket of sockets) socket.destroy()
  server.close()
})
