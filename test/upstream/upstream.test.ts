import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'

import { digestOf } from '../../src/oci/digest.ts'
import { DOCKER_SCHEMA1_SIGNED, OCI_MANIFEST } from '../../src/oci/media-types.ts'
import { ANONYMOUS } from '../../src/upstream/credentials/credentials.ts'
import { Rewrite } from '../../src/upstream/routing/rewrite.ts'
import { UpstreamError } from '../../src/upstream/face/failure.ts'
import { startRegistry } from '../support/registry.ts'
import { startStorageHost } from '../support/storage-host.ts'
import { always, collect, endpointOf, failureOf, REPO, upstreamOver } from './upstream-fixture.ts'
import { Upstream } from '../../src/upstream/upstream.ts'

const signal = new AbortController().signal

describe('a manifest', () => {
  test('comes by tag and by digest with its exact bytes', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([registry.url])
    const byTag = await at.upstream.getManifest(REPO, 'latest', at.requester)
    const byDigest = await at.upstream.getManifest(REPO, image.digest, at.requester)
    expect(byTag.digest).toBe(image.digest)
    expect(byTag.bytes.equals(image.bytes)).toBe(true)
    expect(byDigest).toEqual(byTag)
    expect(byTag).toMatchObject({
      mediaType: OCI_MANIFEST,
      grantedBy: 'anonymous',
      endpoint: `${registry.url}/v2`,
    })
  })

  test('is requested with every type, no encoding, our name and no condition', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([registry.url])
    await at.upstream.getManifest(REPO, 'latest', at.requester)
    const headers = registry.requests[0]?.headers
    expect(headers?.accept).toMatch(
      /oci\.image\.index.*manifest\.list.*oci\.image\.manifest.*\*\/\*$/,
    )
    expect(headers).toMatchObject({
      'accept-encoding': 'identity',
      'user-agent': 'chandlery/1.2.3',
      'cdn-loop': 'chandlery-test',
    })
    expect(headers).not.toHaveProperty('if-none-match')
    expect(headers).not.toHaveProperty('authorization')
  })

  test('without Docker-Content-Digest gets the digest of its bytes', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    registry.fault({ omitHeaders: ['docker-content-digest'] })
    await using at = upstreamOver([registry.url])
    const manifest = await at.upstream.getManifest(REPO, 'latest', at.requester)
    expect(manifest.digest).toBe(image.digest)
  })

  test('without Content-Length is read to its end', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    registry.fault({ announcedLength: 'none' })
    await using at = upstreamOver([registry.url])
    const manifest = await at.upstream.getManifest(REPO, 'latest', at.requester)
    expect(manifest.bytes.equals(image.bytes)).toBe(true)
  })

  test('that does not match its digest is refused as corrupt', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    // Within the digest of the config, so that it stays a manifest.
    registry.fault({ match: { kind: 'manifest' }, corruptAt: image.bytes.indexOf('sha256:') + 70 })
    await using at = upstreamOver([registry.url])
    for (const reference of ['latest', image.digest]) {
      const failure = await failureOf(at.upstream.getManifest(REPO, reference, at.requester))
      expect(['wrong-digest', 'not-a-manifest']).toContain(failure.reason)
      expect(failure.kind).toBe('corrupt')
    }
  })

  test('requested by sha512 is verified by sha512, whatever the header says', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    const digest = digestOf(image.bytes, 'sha512')
    registry.addManifest('library/alpine', image.bytes, { algorithm: 'sha512' })
    registry.fault({ headers: { 'docker-content-digest': image.digest } })
    await using at = upstreamOver([registry.url])
    const manifest = await at.upstream.getManifest(REPO, digest, at.requester)
    expect(manifest.digest).toBe(digest)
  })

  test('of schema 1 keeps the digest the registry gives it', async () => {
    await using registry = await startRegistry()
    const document = {
      schemaVersion: 1,
      name: 'library/alpine',
      tag: 'old',
      fsLayers: [{ blobSum: `sha256:${'a'.repeat(64)}` }],
      history: [],
      signatures: [{ signature: 'x' }],
    }
    const { digest } = registry.addManifest('library/alpine', document, {
      mediaType: DOCKER_SCHEMA1_SIGNED,
      tag: 'old',
    })
    const other = `sha256:${'b'.repeat(64)}`
    registry.fault({ headers: { 'docker-content-digest': other } })
    await using at = upstreamOver([registry.url])
    const manifest = await at.upstream.getManifest(REPO, 'old', at.requester)
    expect(manifest).toMatchObject({ digest: other, mediaType: DOCKER_SCHEMA1_SIGNED })
    expect(digest).not.toBe(other)
  })

  test('that is a web page is refused with what to check', async () => {
    await using registry = await startRegistry()
    const headers = { 'content-type': 'text/html' }
    registry.fault({ status: 200, body: '<html>Sign in</html>', headers })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect(failure).toMatchObject({ reason: 'not-a-manifest', kind: 'corrupt' })
    expect(failure.message).toMatch(/web page.*mirrors\.<registry>\.endpoint/)
  })

  test('that never ends is abandoned, whether that is announced or not', async () => {
    await using registry = await startRegistry()
    const body = Buffer.alloc(9 * 1024 * 1024, 0x20)
    await using at = upstreamOver([registry.url])
    for (const announcedLength of [body.length, 'none'] as const) {
      registry.clearFaults()
      registry.fault({ status: 200, body, announcedLength })
      const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
      expect(failure).toMatchObject({ reason: 'too-large', kind: 'corrupt' })
    }
  })

  test('that is cut is refused', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    registry.fault({ cutAfter: 20 })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect(failure).toMatchObject({ reason: 'cut', kind: 'unavailable' })
  })

  test('that comes encoded although we asked for identity is refused', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    registry.fault({ headers: { 'content-encoding': 'gzip' } })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
    expect(failure).toMatchObject({ reason: 'protocol' })
    expect(failure.message).toContain('Content-Encoding')
  })
})

describe('a request that came through other caches', () => {
  test('names them and then us to the upstream, wherever it leads', async () => {
    await using registry = await startRegistry()
    await using storage = await startStorageHost()
    const image = registry.addImage('library/alpine', 'latest')
    const { digest } = image.blobs[0]!
    registry.fault({ match: { kind: 'blob' }, redirect: storage })
    await using at = upstreamOver([registry.url])
    const requester = { ...at.requester, cdnLoop: 'edge;v=1, "mid"' }
    await at.upstream.getManifest(REPO, 'latest', requester)
    await at.upstream.headBlob(REPO, digest, requester)
    await at.upstream.tags(REPO, '', requester)
    await at.upstream.referrers(REPO, image.digest, requester)
    const [source] = at.upstream.blobSources(REPO, requester)
    await collect((await source!.fetch(digest, 0, signal)).body)
    const sent = [...registry.requests, ...storage.requests].map(({ headers }) => headers)
    expect(sent.length).toBeGreaterThan(5)
    const named = sent.map((headers) => headers['cdn-loop'])
    expect(new Set(named)).toEqual(new Set(['edge;v=1, "mid", chandlery-test']))
  })
})

describe('HEAD of a manifest', () => {
  test('costs one HEAD where the registry says enough', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([registry.url])
    const head = await at.upstream.headManifest(REPO, 'latest', at.requester)
    expect(head).toMatchObject({ digest: image.digest, size: image.bytes.length })
    expect(registry.requests.map((r) => r.method)).toEqual(['HEAD'])
  })

  test.each([
    { refused: 'with 405', fault: { status: 405 } },
    { refused: 'with 404', fault: { status: 404 } },
    { refused: 'with 403', fault: { status: 403 } },
    { refused: 'with 501', fault: { status: 501 } },
    { refused: 'without digest', fault: { omitHeaders: ['docker-content-digest'] } },
    { refused: 'without type', fault: { omitHeaders: ['content-type'] } },
    { refused: 'without length', fault: { omitHeaders: ['content-length'] } },
    { refused: 'with length 0', fault: { headers: { 'content-length': '0' } } },
  ])('that is answered $refused becomes a GET', async ({ fault }) => {
    await using registry = await startRegistry()
    const image = registry.addImage('library/alpine', 'latest')
    registry.fault({ match: { method: 'HEAD' }, ...fault })
    await using at = upstreamOver([registry.url])
    const head = await at.upstream.headManifest(REPO, 'latest', at.requester)
    expect(head).toHaveProperty('bytes', image.bytes)
    expect(registry.requests.map((r) => r.method)).toEqual(['HEAD', 'GET'])
  })
})

describe('several endpoints', () => {
  test('are asked in order, the next one after any failure', async () => {
    await using broken = await startRegistry()
    await using corrupt = await startRegistry()
    await using good = await startRegistry()
    const image = good.addImage('library/alpine', 'latest')
    broken.fault({ status: 503 })
    corrupt.fault({ status: 200, body: '<html>', headers: { 'content-type': 'text/html' } })
    await using at = upstreamOver([broken.url, corrupt.url, good.url])
    const manifest = await at.upstream.getManifest(REPO, 'latest', at.requester)
    expect(manifest).toMatchObject({ digest: image.digest, endpoint: `${good.url}/v2` })
    expect(at.events.failures.map((f) => f.reason)).toEqual(['server-error', 'not-a-manifest'])
  })

  test('that all fail give the least final failure', async () => {
    await using gone = await startRegistry()
    await using denied = await startRegistry()
    await using down = await startRegistry()
    denied.fault({ status: 403, body: '{"errors":[{"code":"DENIED"}]}' })
    down.fault({ status: 502 })
    await using three = upstreamOver([gone.url, denied.url, down.url])
    await using two = upstreamOver([gone.url, denied.url])
    await using one = upstreamOver([gone.url])
    const kinds = [three, two, one].map(async (at) => {
      const failure = await failureOf(at.upstream.getManifest(REPO, 'latest', at.requester))
      return failure.kind
    })
    expect(await Promise.all(kinds)).toEqual(['unavailable', 'denied', 'gone'])
  })

  test('are each asked for the name that their own rewrites make', async () => {
    await using registry = await startRegistry()
    const image = registry.addImage('team/alpine', 'latest')
    const rewrites = [new Rewrite('^library/(.+)$', 'team/$1')]
    await using at = upstreamOver([registry.url], { rewrites })
    const manifest = await at.upstream.getManifest(REPO, 'latest', at.requester)
    expect(manifest.digest).toBe(image.digest)
    expect(registry.requests[0]?.url).toBe('/v2/team/alpine/manifests/latest')
  })

  test('that a client named are asked at public addresses only', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([])
    const endpoints = () => [
      { ...endpointOf(`http://localhost:${registry.port}`), isDefault: true },
    ]
    const pull = (names: string[]) => {
      const upstream = new Upstream({ registries: { endpoints, names }, client: at.client })
      return upstream.getManifest(REPO, 'latest', at.requester)
    }
    const failure = await failureOf(pull(['other.test']))
    expect(failure).toMatchObject({ reason: 'not-public', kind: 'denied' })
    expect(failure.message).toMatch(/localhost.*not at a public address.*mirrors/)
    expect(registry.accepted).toBe(0)
    expect(await pull([REPO.registry])).toMatchObject({ mediaType: OCI_MANIFEST })
  })

  test('that a client named are not probed elsewhere either', async () => {
    await using inside = await startRegistry()
    await using mirror = await startRegistry()
    mirror.addImage('library/alpine', 'latest')
    const own = { ...endpointOf(`http://localhost:${inside.port}`), isDefault: true }
    const breaker = { threshold: 1, openMs: 1 }
    await using at = upstreamOver([mirror.url], { breaker })
    const endpoints = () => [...at.endpoints, own]
    const upstream = new Upstream({ registries: { endpoints, names: [] }, client: at.client })
    const down = new UpstreamError('timed-out', 'no answer', { endpoint: own.key })
    at.client.health.failed(own, 'endpoint', down)
    await sleep(20)
    await upstream.getManifest(REPO, 'latest', at.requester)
    await sleep(100)
    expect(inside.accepted).toBe(0)
  })

  test('are no longer asked once the caller has left', async () => {
    await using first = await startRegistry()
    await using second = await startRegistry()
    first.fault({ stall: 'headers' })
    await using at = upstreamOver([first.url, second.url])
    const leaving = AbortSignal.timeout(50)
    const asked = at.upstream.getManifest(REPO, 'latest', at.requester, leaving)
    await expect(asked).rejects.toThrow(/timeout/)
    await expect(asked).rejects.toBe(leaving.reason)
    expect(second.requests).toEqual([])
  })
})

describe('a blob', () => {
  const content = Buffer.from('0123456789'.repeat(1000))

  test('is fetched from the start without Range, and from any byte with it', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(content)
    await using at = upstreamOver([registry.url])
    const [source] = at.upstream.blobSources(REPO, at.requester)
    const whole = await source?.fetch(digest, 0, signal)
    const rest = await source?.fetch(digest, 4000, signal)
    expect(whole).toMatchObject({ start: 0, size: content.length, grantedBy: 'anonymous' })
    expect(rest).toMatchObject({ start: 4000, size: content.length })
    expect((await collect(whole!.body)).equals(content)).toBe(true)
    expect((await collect(rest!.body)).equals(content.subarray(4000))).toBe(true)
    expect(registry.requests.map((r) => r.headers.range)).toEqual([undefined, 'bytes=4000-'])
    expect(at.events.bytes).toBe(content.length * 2 - 4000)
  })

  test('from a registry without ranges says that it starts at 0', async () => {
    await using registry = await startRegistry({ ranges: false })
    const { digest } = registry.addBlob(content)
    await using at = upstreamOver([registry.url])
    const [source] = at.upstream.blobSources(REPO, at.requester)
    const response = await source?.fetch(digest, 4000, signal)
    expect(response?.start).toBe(0)
    expect((await collect(response!.body)).equals(content)).toBe(true)
  })

  test('requested from its very end is empty', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(content)
    await using at = upstreamOver([registry.url])
    const [source] = at.upstream.blobSources(REPO, at.requester)
    const end = await source?.fetch(digest, content.length, signal)
    expect(end).toMatchObject({ start: content.length, size: content.length })
    expect(await collect(end!.body)).toHaveLength(0)
    const beyond = await failureOf(source!.fetch(digest, content.length + 1, signal))
    expect(beyond.reason).toBe('wrong-size')
  })

  test('that is cut, with or without a length, throws after what came', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(content)
    await using at = upstreamOver([registry.url])
    const [source] = at.upstream.blobSources(REPO, at.requester)
    registry.fault({ cutAfter: 3000 })
    const { body } = await source!.fetch(digest, 0, signal)
    const received: Uint8Array[] = []
    const reading = (async () => {
      for await (const chunk of body) received.push(chunk)
    })()
    expect(await failureOf(reading)).toMatchObject({ reason: 'cut', kind: 'unavailable' })
    expect(Buffer.concat(received).equals(content.subarray(0, 3000))).toBe(true)
    registry.clearFaults()
    registry.fault({ announcedLength: 'none', bodyLength: 100 })
    const short = await source!.fetch(digest, 10, signal)
    expect(await failureOf(collect(short.body))).toMatchObject({ reason: 'cut' })
  })

  test('whose range is not the requested one is refused', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(content)
    registry.fault({ headers: { 'content-range': `bytes 5000-9999/${content.length}` } })
    await using at = upstreamOver([registry.url])
    const [source] = at.upstream.blobSources(REPO, at.requester)
    const failure = await failureOf(source!.fetch(digest, 4000, signal))
    expect(failure.reason).toBe('protocol')
  })

  test('has one source for each endpoint, the same for the same caller', async () => {
    await using at = upstreamOver(['https://a.test', 'https://b.test'])
    const ids = at.upstream.blobSources(REPO, at.requester).map((source) => source.id)
    const again = at.upstream.blobSources(REPO, at.requester).map((source) => source.id)
    const sent = { ...at.requester, cdnLoop: 'other' }
    const passedOn = at.upstream.blobSources(REPO, sent).map((source) => source.id)
    const somebody = { credentials: always(ANONYMOUS) }
    const other = at.upstream.blobSources(REPO, somebody).map((source) => source.id)
    expect(new Set(ids).size).toBe(2)
    expect([again, passedOn]).toEqual([ids, ids])
    expect(other.some((id) => ids.includes(id))).toBe(false)
  })
})

describe('HEAD of a blob', () => {
  const content = Buffer.from('hello')

  test('gives the size', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(content)
    await using at = upstreamOver([registry.url])
    expect(await at.upstream.headBlob(REPO, digest, at.requester)).toMatchObject({ size: 5 })
    const missing = digestOf(Buffer.from('missing'))
    const failure = await failureOf(at.upstream.headBlob(REPO, missing, at.requester))
    expect(failure).toMatchObject({ reason: 'not-found', kind: 'gone', status: 404 })
  })

  test.each([401, 403, 405])('refused with %i asks for the first byte', async (status) => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(content)
    registry.fault({ match: { method: 'HEAD' }, status })
    await using at = upstreamOver([registry.url])
    expect(await at.upstream.headBlob(REPO, digest, at.requester)).toMatchObject({ size: 5 })
    expect(registry.requests.at(-1)?.headers.range).toBe('bytes=0-0')
  })

  test('of the empty blob gives 0, and a 0 for any other blob is not a size', async () => {
    await using registry = await startRegistry()
    const empty = registry.addBlob(new Uint8Array())
    const full = registry.addBlob(content)
    registry.fault({ headers: { 'content-length': '0' } })
    await using at = upstreamOver([registry.url])
    expect(empty.digest).toContain(createHash('sha256').digest('hex'))
    const sizes = [empty, full].map(async ({ digest }) => {
      return (await at.upstream.headBlob(REPO, digest, at.requester)).size
    })
    expect(await Promise.all(sizes)).toEqual([0, undefined])
  })

  test('that is answered with a login page does not say that the blob exists', async () => {
    await using registry = await startRegistry()
    const { digest } = registry.addBlob(content)
    registry.fault({ status: 200, body: '<html>', headers: { 'content-type': 'text/html' } })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.upstream.headBlob(REPO, digest, at.requester))
    expect(failure.reason).toBe('protocol')
  })
})

describe('tags', () => {
  test("come page by page with the upstream's own cursor", async () => {
    await using registry = await startRegistry({ pageSize: 2, cursor: 'marker' })
    const image = registry.addImage('library/alpine', 'a')
    for (const tag of ['b', 'c']) registry.tag('library/alpine', tag, image.digest)
    await using at = upstreamOver([registry.url])
    const first = await at.upstream.tags(REPO, 'n=2', at.requester)
    expect(first.tags).toEqual(['a', 'b'])
    expect(first.next).toMatch(/marker=/)
    const second = await at.upstream.tags(REPO, first.next ?? '', at.requester)
    expect(second).toEqual({ tags: ['c'] })
  })

  test.each([
    { what: 'null', body: { name: 'library/alpine', tags: null }, tags: [] },
    { what: 'strange ones', body: { tags: ['ok', 5, '../x', ''] }, tags: ['ok'] },
    { what: 'GCR’s extra keys', body: { tags: ['a'], manifest: {}, child: [] }, tags: ['a'] },
  ])('that are $what are read as well as they can be', async ({ body, tags }) => {
    await using registry = await startRegistry()
    registry.fault({ status: 200, body: JSON.stringify(body) })
    await using at = upstreamOver([registry.url])
    expect(await at.upstream.tags(REPO, '', at.requester)).toEqual({ tags })
  })

  test('lead nowhere else, because only the query of a link to the same host counts', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'a')
    await using at = upstreamOver([registry.url])
    const nextOf = async (link: string) => {
      registry.clearFaults()
      registry.fault({ headers: { link } })
      return (await at.upstream.tags(REPO, '', at.requester)).next
    }
    expect(await nextOf('<https://127.0.0.1/elsewhere?last=a>; rel="next"')).toBe('last=a')
    expect(await nextOf('</v2/library/alpine/tags/list?last=a&n=1>; rel="next"')).toBe('last=a&n=1')
    expect(await nextOf('<?last=b>; rel=next')).toBe('last=b')
    expect(await nextOf('<https://evil.test/?last=a>; rel="next"')).toBeUndefined()
    expect(await nextOf('<http://[>; rel="next"')).toBeUndefined()
  })

  test('that are not a list are a failure of that endpoint', async () => {
    await using registry = await startRegistry()
    registry.fault({ status: 200, body: '<html>', headers: { 'content-type': 'text/html' } })
    await using at = upstreamOver([registry.url])
    const failure = await failureOf(at.upstream.tags(REPO, '', at.requester))
    expect(failure.reason).toBe('protocol')
  })
})

describe('referrers', () => {
  test('come from all pages', async () => {
    await using registry = await startRegistry({ pageSize: 2 })
    const image = registry.addImage('library/alpine', 'a')
    const subject = { mediaType: image.mediaType, digest: image.digest, size: image.bytes.length }
    const artifactTypes = ['application/x.a', 'application/x.b', 'application/x.c']
    for (const artifactType of artifactTypes) {
      registry.addReferrer('library/alpine', subject, { artifactType })
    }
    await using at = upstreamOver([registry.url])
    const found = await at.upstream.referrers(REPO, image.digest, at.requester)
    expect(found?.manifests.map((m) => m.artifactType).toSorted()).toEqual(artifactTypes)
  })

  test('of a registry without the API are undefined, and of one that fails an error', async () => {
    await using without = await startRegistry({ referrers: 'none' })
    await using failing = await startRegistry()
    failing.fault({ status: 500 })
    const digest = digestOf(Buffer.from('x'))
    await using one = upstreamOver([without.url])
    await using both = upstreamOver([without.url, failing.url])
    expect(await one.upstream.referrers(REPO, digest, one.requester)).toBeUndefined()
    const failure = await failureOf(both.upstream.referrers(REPO, digest, both.requester))
    expect(failure.reason).toBe('server-error')
  })

  test('that have endless pages come to an end', async () => {
    await using registry = await startRegistry()
    let page = 0
    registry.fault({
      status: 200,
      body: '{"manifests":[]}',
      headers: { link: '<?p=1>; rel="next"' },
    })
    await using at = upstreamOver([registry.url])
    const found = await at.upstream.referrers(REPO, digestOf(Buffer.from('x')), at.requester)
    page = registry.requests.length
    expect(found).toEqual({ manifests: [] })
    expect(page).toBeLessThanOrEqual(20)
  })
})

describe('the budget of a repository', () => {
  test('is what its registry says is left, and nothing where no registry is asked', async () => {
    await using registry = await startRegistry()
    registry.addImage('library/alpine', 'latest')
    const headers = { 'ratelimit-limit': '100;w=60', 'ratelimit-remaining': '9;w=60' }
    registry.fault({ headers })
    await using at = upstreamOver([registry.url])
    expect(at.upstream.budget(REPO)).toBeUndefined()
    await at.upstream.headManifest(REPO, 'latest', at.requester)
    expect(at.upstream.budget(REPO)).toEqual({ limit: 100, remaining: 9, low: true })
    await using without = upstreamOver([])
    expect(without.upstream.budget(REPO)).toBeUndefined()
  })
})
