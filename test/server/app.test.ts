import { connect } from 'node:net'
import { request } from 'node:http'
import { afterEach, describe, expect, it } from 'vitest'
import type { Caches, Requester } from '../../src/cache/caches.ts'
import type { Descriptor } from '../../src/oci/descriptor.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { OciError } from '../../src/oci/errors.ts'
import { FakeContent, patternBytes } from './fake-content.ts'
import {
  blobsOf,
  plainRouter,
  type RunningApp,
  startApp,
  talkTo,
  type TestOptions,
} from './fixture.ts'
import type { Router } from '../../src/server/routing.ts'
import { until } from '../support/until.ts'

const MANIFEST = Buffer.from('{"schemaVersion":2}\n')
const DIGEST = digestOf(MANIFEST)
const TYPE = 'application/vnd.oci.image.manifest.v1+json'
const INDEX_TYPE = 'application/vnd.oci.image.index.v1+json'
const SERVED = {
  digest: DIGEST,
  mediaType: TYPE,
  size: MANIFEST.length,
  bytes: MANIFEST,
  cache: { state: 'hit', ttlSeconds: 41 },
} as const
const manifests = { get: async () => SERVED, head: async () => ({ ...SERVED, bytes: Buffer.of() }) }

let app: RunningApp
afterEach(() => app.stop())

async function start(options: TestOptions = {}): Promise<void> {
  app = await startApp({ manifests, ...options })
}

async function ask(path: string, init: { method?: string; headers?: Record<string, string> } = {}) {
  const response = await fetch(app.url + path, init)
  const body = Buffer.from(await response.arrayBuffer())
  const header = (name: string) => response.headers.get(name)
  return { status: response.status, header, body, json: () => JSON.parse(body.toString()) }
}

const tagsEndingIn = (next?: string): Caches['tags'] => ({
  list: async (_repository, query) => ({
    tags: ['a', 'b'],
    ...((next !== undefined || query !== '') && { next: next ?? `after=${query}` }),
    cache: { state: 'miss', fwdStatus: 200 },
  }),
})

const referrer = (artifactType: string): Descriptor => ({
  mediaType: TYPE,
  digest: DIGEST,
  size: 3,
  artifactType,
  annotations: { a: 'b' },
})

const talk = (text: string) => talkTo(app.port, text)

function codesOf(answer: { json: () => { errors: { code: string }[] } }): string[] {
  return answer.json().errors.map((each) => each.code)
}

describe('the ping', () => {
  it.each(['/v2', '/v2/', '/docker.io/v2/', '/v2/?ns=docker.io'])('%s says 200', async (path) => {
    await start()
    const answer = await ask(path)
    expect(answer.status).toBe(200)
    expect(answer.body.toString()).toBe('{}')
    expect(answer.header('docker-distribution-api-version')).toBe('registry/2.0')
    const head = await ask(path, { method: 'HEAD' })
    expect([head.status, head.header('content-length')]).toEqual([200, '2'])
  })
})

describe('a manifest', () => {
  it('comes byte for byte under its exact type, with its digest', async () => {
    await start()
    const answer = await ask('/v2/library/alpine/manifests/latest?ns=docker.io')
    expect(answer.status).toBe(200)
    expect(answer.body.equals(MANIFEST)).toBe(true)
    expect(answer.header('content-type')).toBe(TYPE)
    expect(answer.header('docker-content-digest')).toBe(DIGEST)
    expect(answer.header('content-length')).toBe(String(MANIFEST.length))
    expect(answer.header('etag')).toBe(`"${DIGEST}"`)
    expect(answer.header('cache-status')).toBe('chandlery; hit; ttl=41')
    expect(answer.header('oci-namespace')).toBe('docker.io')
  })

  it('has the same head on HEAD, with the length of what GET sends', async () => {
    await start()
    const path = '/v2/library/alpine/manifests/latest'
    const [get, head] = [await ask(path), await ask(path, { method: 'HEAD' })]
    expect(head.status).toBe(200)
    expect(head.body.length).toBe(0)
    for (const name of ['content-type', 'content-length', 'docker-content-digest', 'etag']) {
      expect(head.header(name)).toBe(get.header(name))
    }
  })

  it('is a 304 for a client that has it', async () => {
    await start()
    const headers = { 'if-none-match': `"${DIGEST}"` }
    const answer = await ask('/v2/library/alpine/manifests/latest', { headers })
    expect(answer.status).toBe(304)
    expect(answer.body.length).toBe(0)
    expect(answer.header('docker-content-digest')).toBe(DIGEST)
  })

  it('under an invalid tag is unknown, and under an invalid digest a 400', async () => {
    await start()
    const tag = await ask('/v2/library/alpine/manifests/.INVALID_MANIFEST_NAME')
    expect([tag.status, codesOf(tag)]).toEqual([404, ['MANIFEST_UNKNOWN']])
    const digest = await ask('/v2/library/alpine/manifests/sha256:totallywrong')
    expect([digest.status, codesOf(digest)]).toEqual([400, ['DIGEST_INVALID']])
  })

  it('is also sent where the GET has a body, and the connection stays open', async () => {
    await start()
    const get = 'GET /v2/a/manifests/latest HTTP/1.1\r\nHost: x\r\n'
    const body = 'Content-Type: application/json\r\nContent-Length: 5\r\n\r\nhello'
    const answer = await talk(`${get}${body}${get}Connection: close\r\n\r\n`)
    expect(answer.match(/HTTP\/1.1 200 OK/g)?.length).toBe(2)
  })

  it.each(['GET', 'HEAD'])(
    'with an illegal header value is an error on %s, not a split response',
    async (method) => {
      const broken = { ...SERVED, digest: 'sha256:\r\nX-Evil: 1' as Digest }
      await start({ manifests: { get: async () => broken, head: async () => broken } })
      const answer = await ask('/v2/library/alpine/manifests/latest', { method })
      expect(answer.status).toBe(500)
      expect(answer.header('x-evil')).toBeNull()
      expect(answer.header('etag')).toBeNull()
      expect(answer.header('content-type')).toBe('application/json')
    },
  )

  it('with an illegal media type is never split', async () => {
    const broken = { ...SERVED, mediaType: 'a/b\r\nX-Evil: 1' }
    await start({ manifests: { get: async () => broken, head: async () => broken } })
    const answer = await ask('/v2/library/alpine/manifests/latest')
    expect(answer.header('content-type')).toBe('application/octet-stream')
    expect(answer.header('x-evil')).toBeNull()
  })
})

describe('a blob', () => {
  const bytes = patternBytes(1000)
  const digest = digestOf(bytes)
  const path = `/v2/library/alpine/blobs/${digest}`
  const held = () => start({ blobs: blobsOf(() => new FakeContent(bytes)) })
  const range = (value: string, more = {}) => ask(path, { headers: { range: value, ...more } })

  it('has the same head on HEAD, where Range is ignored', async () => {
    await held()
    const [get, head] = [
      await ask(path),
      await ask(path, { method: 'HEAD', headers: { range: 'bytes=0-1' } }),
    ]
    expect(get.body.equals(bytes)).toBe(true)
    expect(head.status).toBe(200)
    const names = [
      'content-type',
      'content-length',
      'docker-content-digest',
      'accept-ranges',
      'etag',
    ]
    for (const name of names) expect(head.header(name)).toBe(get.header(name))
    expect(head.header('accept-ranges')).toBe('bytes')
  })

  it('of unknown size has no length on HEAD', async () => {
    await start({ blobs: blobsOf(() => FakeContent.ofUnknownSize(bytes)) })
    const head = await ask(path, { method: 'HEAD' })
    expect([head.status, head.header('content-length')]).toEqual([200, null])
  })

  it.each([
    ['bytes=0-1', 0, 2],
    ['bytes=10-', 10, 1000],
    ['bytes=-7', 993, 1000],
    ['bytes=990-2000', 990, 1000],
    ['bytes=0-', 0, 1000],
  ])('is sent as a 206 for %s', async (value, from, to) => {
    await held()
    const answer = await range(value)
    expect(answer.status).toBe(206)
    expect(answer.header('content-range')).toBe(`bytes ${from}-${to - 1}/1000`)
    expect(answer.header('content-length')).toBe(String(to - from))
    expect(answer.body.equals(bytes.subarray(from, to))).toBe(true)
  })

  it('is sent as exactly the requested parts, in their order, for several ranges', async () => {
    await held()
    const answer = await range('bytes=500-509, 0-0, -3')
    expect(answer.status).toBe(206)
    const boundary = /^multipart\/byteranges; boundary=(\w+)$/.exec(
      answer.header('content-type') ?? '',
    )?.[1]
    const part = (from: number, to: number) =>
      `--${boundary}\r\nContent-Type: application/octet-stream\r\n` +
      `Content-Range: bytes ${from}-${to - 1}/1000\r\n\r\n` +
      `${bytes.toString('latin1', from, to)}\r\n`
    const expected = `${part(500, 510)}${part(0, 1)}${part(997, 1000)}--${boundary}--\r\n`
    expect(answer.body.toString('latin1')).toBe(expected)
    expect(answer.header('content-length')).toBe(String(expected.length))
  })

  it('is sent whole where the ranges overlap to more than its size', async () => {
    await held()
    const answer = await range('bytes=0-,0-,0-')
    expect([answer.status, answer.body.length]).toEqual([200, 1000])
  })

  it('is sent for 1,024 ranges in a header of over 16 KiB, as podman asks', async () => {
    const large = patternBytes(20_000_000)
    await start({ blobs: blobsOf(() => new FakeContent(large)) })
    const from = Array.from({ length: 1024 }, (_, n) => 10_000_000 + n * 9000)
    const value = `bytes=${from.map((at) => `${at}-${at + 2}`).join(',')}`
    expect(value.length).toBeGreaterThan(16_384)
    const answer = await range(value)
    expect(answer.status).toBe(206)
    const parts = answer.body.toString('latin1').split(/\r\n\r\n|\r\n--/)
    const bodies = parts.filter((_, index) => index % 2 === 1)
    expect(bodies.slice(0, 1024)).toEqual(from.map((at) => large.toString('latin1', at, at + 3)))
  })

  it('is answered with 400, not 431, for headers without an end', async () => {
    await held()
    const answer = await talk(
      `GET ${path} HTTP/1.1\r\nHost: x\r\nRange: ${'0-1,'.repeat(20_000)}\r\n`,
    )
    expect(answer).toMatch(/^HTTP\/1.1 400 /)
  })

  it('is answered with 416 and its size where no part of it was requested', async () => {
    await held()
    const answer = await range('bytes=1000-')
    expect([answer.status, codesOf(answer)]).toEqual([416, ['RANGE_INVALID']])
    expect(answer.header('content-range')).toBe('bytes */1000')
  })

  it('is sent in part only while If-Range still holds', async () => {
    await held()
    expect((await range('bytes=0-1', { 'if-range': `"${digest}"` })).status).toBe(206)
    expect((await range('bytes=0-1', { 'if-range': '"sha256:other"' })).status).toBe(200)
  })

  it('is a 304 for a client that has it', async () => {
    await held()
    const answer = await ask(path, { headers: { 'if-none-match': `"${digest}"` } })
    expect(answer.status).toBe(304)
  })

  it('tells its content which parts will be sent', async () => {
    const content = new FakeContent(bytes)
    await start({ blobs: blobsOf(() => content) })
    await range('bytes=5-9')
    expect(content.planned).toEqual([{ start: 5, end: 10 }])
    await ask(path)
    expect(content.planned).toBeUndefined()
  })
})

describe('the tags', () => {
  it("carry the client's own name, and a link on its own path with the upstream's cursor", async () => {
    await start({ tags: tagsEndingIn() })
    const answer = await ask('/docker.io/v2/library/alpine/tags/list?n=2&ns=docker.io&x=%2F')
    expect(answer.json()).toEqual({ name: 'library/alpine', tags: ['a', 'b'] })
    expect(answer.header('link')).toBe(
      '</docker.io/v2/library/alpine/tags/list?after=n=2&x=%2F&ns=docker.io>; rel="next"',
    )
  })

  it('have no link at the end, and refuse an invalid page size', async () => {
    await start({ tags: tagsEndingIn() })
    expect((await ask('/v2/library/alpine/tags/list')).header('link')).toBeNull()
    const bad = await ask('/v2/library/alpine/tags/list?n=-1')
    expect([bad.status, codesOf(bad)]).toEqual([400, ['PAGINATION_NUMBER_INVALID']])
  })

  it('cannot end the Link header early', async () => {
    await start({ tags: tagsEndingIn('last=a>b"\r\nX-Evil: 1') })
    const answer = await ask('/v2/library/alpine/tags/list')
    expect(answer.header('link')).toMatch(/^<[^<>"\s]*>; rel="next"$/)
    expect(answer.header('x-evil')).toBeNull()
  })
})

describe('the referrers', () => {
  const referrers: Caches['referrers'] = {
    list: async () => ({
      manifests: [referrer('x/sbom'), referrer('x/sig')],
      cache: { state: 'hit' },
    }),
  }

  it('are an index of exactly that type, filtered on demand', async () => {
    await start({ referrers })
    const all = await ask(`/v2/library/alpine/referrers/${DIGEST}`)
    expect(all.header('content-type')).toBe(INDEX_TYPE)
    expect(all.header('oci-filters-applied')).toBeNull()
    expect(all.json()).toEqual({
      schemaVersion: 2,
      mediaType: INDEX_TYPE,
      manifests: [referrer('x/sbom'), referrer('x/sig')],
    })
    const some = await ask(`/v2/library/alpine/referrers/${DIGEST}?artifactType=x%2Fsig`)
    expect(some.header('oci-filters-applied')).toBe('artifactType')
    expect(some.json().manifests).toEqual([referrer('x/sig')])
  })

  it('of something that is not a digest are refused', async () => {
    await start({ referrers })
    const answer = await ask('/v2/library/alpine/referrers/sha256:nope')
    expect([answer.status, codesOf(answer)]).toEqual([400, ['DIGEST_INVALID']])
  })
})

describe('the catalog', () => {
  const asked: (string | undefined)[] = []
  const catalog: Caches['catalog'] = {
    repositories: async (registry) => {
      asked.push(registry)
      return ['a', 'b', 'c/d', 'e']
    },
  }

  it('is sent in pages that link to each other', async () => {
    await start({ catalog })
    const first = await ask('/v2/_catalog?n=3')
    expect(first.json()).toEqual({ repositories: ['a', 'b', 'c/d'] })
    const link = '/v2/_catalog?n=3&last=c%2Fd'
    expect(first.header('link')).toBe(`<${link}>; rel="next"`)
    const second = await ask(link)
    expect(second.json()).toEqual({ repositories: ['e'] })
    expect(second.header('link')).toBeNull()
    expect((await ask('/v2/_catalog?n=0')).json()).toEqual({ repositories: [] })
  })

  it('is the one of a registry where the request names it', async () => {
    await start({ catalog })
    asked.length = 0
    await ask('/v2/_catalog')
    await ask('/quay.io/v2/_catalog')
    expect(asked).toEqual([undefined, 'quay.io'])
  })
})

describe('a request that this registry does not serve', () => {
  it.each([
    ['POST', '/v2/library/alpine/blobs/uploads/'],
    ['PATCH', '/v2/library/alpine/blobs/uploads/123'],
    ['PUT', '/v2/library/alpine/manifests/latest'],
    ['DELETE', '/v2/library/alpine/manifests/latest'],
    ['PUT', '/docker.io/v2/%zz'],
    ['PROPFIND', '/v2/'],
    ['OPTIONS', '/v2/'],
    ['GET', '/v2/library/alpine/blobs/uploads/123'],
  ])('such as %s %s is a 405', async (method, path) => {
    await start()
    const headers = { 'content-type': 'application/x-odd; v=1' }
    const answer = await ask(path, { method, headers })
    expect([answer.status, codesOf(answer)]).toEqual([405, ['UNSUPPORTED']])
    expect(answer.header('allow')).toBe('GET, HEAD')
  })

  it('such as a push is refused without reading all of its body', async () => {
    await start()
    const status = await new Promise((resolve, reject) => {
      const path = '/v2/a/blobs/uploads/'
      const sent = request({ port: app.port, path, method: 'POST' }, (res) => {
        resolve(res.statusCode)
        res.resume()
        sent.destroy()
      })
      sent.on('error', reject)
      sent.write(Buffer.alloc(1024 * 1024))
    })
    expect(status).toBe(405)
  })

  it.each(['http://x/v2/', 'HTTP://x:5000/v2/?ns=docker.io', 'http://x/v2'])(
    'is treated the same where the target names the host too: %s',
    async (target) => {
      await start()
      const answer = await talk(`GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
      expect(answer).toContain('HTTP/1.1 200 OK')
    },
  )

  it.each([
    ['/', 404],
    ['/favicon.ico', 404],
    ['/v1/search', 404],
    ['/v2/library/alpine/nothing/x', 404],
    ['/v2/%zz/manifests/latest', 400],
    ['/v2/a%2Fb/manifests/latest', 400],
    ['/v2/a//b/manifests/latest', 400],
    ['/v2/a/%2e%2e/manifests/latest', 400],
  ])('such as %s is an OCI error with status %i', async (path, status) => {
    await start()
    const answer = await talk(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
    expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect(answer).toContain('Content-Type: application/json'.toLowerCase())
    expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))).toHaveProperty('errors')
  })

  it.each([
    ['1.1', '', 400],
    ['1.1', 'Host: a\r\nHost: b\r\n', 400],
    ['1.1', 'Host: a\r\n', 200],
    ['1.0', '', 200],
  ])(
    'such as HTTP/%s with the headers %j is answered %i by Chandlery',
    async (version, hosts, status) => {
      await start()
      const answer = await talk(`GET /v2/ HTTP/${version}\r\n${hosts}Connection: close\r\n\r\n`)
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
      const body: unknown = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))
      expect(body).toEqual(
        status === 200
          ? {}
          : {
              errors: [
                { code: 'UNSUPPORTED', message: 'a request must have exactly one Host header' },
              ],
            },
      )
    },
  )

  it('is not refused for an unknown expectation', async () => {
    await start()
    const answer = await talk(
      'GET /v2/ HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\nConnection: close\r\n\r\n',
    )
    expect(answer).toMatch(/^HTTP\/1.1 200 OK\r\n[^]*\r\n\r\n\{\}$/)
  })

  it('that is not HTTP is answered with 400, and the connection is closed', async () => {
    await start()
    expect(await talk('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')).toMatch(
      /^HTTP\/1.1 400 Bad Request\r\n[^]*TLS was sent to a plain HTTP port/,
    )
    expect(await talk('nonsense\r\n\r\n')).toMatch(/^HTTP\/1.1 400 Bad Request\r\n/)
  })
})

describe('errors', () => {
  it('carry code, message, detail and headers, and the reason in Cache-Status', async () => {
    const upstream = Object.assign(new Error('wait'), { reason: 'rate-limited', status: 429 })
    const failing = async () => {
      throw new OciError('TOOMANYREQUESTS', 'the upstream limits us', {
        status: 503,
        detail: { reason: 'rate-limited' },
        headers: { 'retry-after': '7' },
        cause: upstream,
      })
    }
    await start({ manifests: { get: failing, head: failing } })
    const answer = await ask('/v2/library/alpine/manifests/latest')
    expect(answer.status).toBe(503)
    expect(answer.json()).toEqual({
      errors: [
        {
          code: 'TOOMANYREQUESTS',
          message: 'the upstream limits us',
          detail: { reason: 'rate-limited' },
        },
      ],
    })
    expect(answer.header('retry-after')).toBe('7')
    expect(answer.header('cache-status')).toBe(
      'chandlery; fwd=uri-miss; fwd-status=429; detail=rate-limited',
    )
    const head = await ask('/v2/library/alpine/manifests/latest', { method: 'HEAD' })
    expect([head.status, head.body.length]).toEqual([503, 0])
    await until(() => app.records.length === 2)
    expect(app.records[0]).toMatchObject({
      failure: 'rate-limited',
      message: 'wait',
      cache: 'miss',
    })
  })

  it('that are our own tell the client nothing, and are reported with the request', async () => {
    const error = new TypeError('secret detail')
    const failing = () => Promise.reject(error)
    await start({ manifests: { get: failing, head: failing } })
    const answer = await ask('/v2/library/alpine/manifests/latest')
    expect(answer.status).toBe(500)
    expect(answer.body.toString()).not.toContain('secret')
    const [{ id: requestId } = { id: '' }] = app.records
    expect(app.faults).toEqual([{ operation: 'answer a request', error, requestId }])
  })

  it('that come from a resource that ran out are 503 with the remedy, and are reported', async () => {
    const error = Object.assign(new Error('connect EMFILE 10.0.0.1:443'), { code: 'EMFILE' })
    const failing = () => Promise.reject(error)
    await start({ manifests: { get: failing, head: failing } })
    const answer = await ask('/v2/library/alpine/manifests/latest')
    expect(answer.status).toBe(503)
    expect(answer.header('retry-after')).toBe('5')
    expect(answer.json().errors).toMatchObject([
      { code: 'UNAVAILABLE', message: expect.stringContaining('ulimit -n') },
    ])
    expect(answer.body.toString()).not.toContain('10.0.0.1')
    expect(app.faults).toMatchObject([{ operation: 'answer a request', error }])
  })

  it('of routing are sent as they are', async () => {
    const error = new OciError('NAME_UNKNOWN', 'registry example.com is not served')
    const route = () => {
      throw error
    }
    await start({ registries: { route } })
    const answer = await ask('/v2/example.com/x/manifests/latest')
    expect([answer.status, codesOf(answer)]).toEqual([404, ['NAME_UNKNOWN']])
  })
})

describe('a request that has been here before', () => {
  it('is a 508', async () => {
    await start()
    const path = '/v2/library/alpine/manifests/latest'
    const looped = await ask(path, { headers: { 'cdn-loop': 'other, chandlery-test; x=1' } })
    expect(looped.status).toBe(508)
    const passed = await ask(path, { headers: { 'cdn-loop': 'other' } })
    expect(passed.status).toBe(200)
  })

  it.each([
    ['many', Array.from({ length: 33 }, (_, n) => `cdn-${n}`).join(', ')],
    ['long', `cdn;x="${'x'.repeat(4096)}"`],
  ])('is also a 508 when its path is too %s to have an end', async (_, loop) => {
    await start()
    const path = '/v2/library/alpine/manifests/latest'
    const answer = await ask(path, { headers: { 'cdn-loop': loop } })
    expect(answer.status).toBe(508)
  })

  it('is passed on to the upstream, and requests without a path share one requester', async () => {
    const requesters: Requester[] = []
    const get: Caches['manifests']['get'] = async (_repository, _reference, requester) => {
      requesters.push(requester)
      throw new OciError('MANIFEST_UNKNOWN')
    }
    await start({ manifests: { get, head: get } })
    const path = '/v2/library/alpine/manifests/latest'
    for (const loop of [undefined, 'other', undefined]) {
      await ask(path, loop === undefined ? {} : { headers: { 'cdn-loop': loop } })
    }
    const [first, second, third] = requesters
    expect(second).toEqual({ ...first, cdnLoop: 'other' })
    expect(first).not.toHaveProperty('cdnLoop')
    expect(third).toBe(first)
  })
})

describe('the record of a request', () => {
  it('says what it was and how it went, without its query', async () => {
    await start()
    const headers = { 'x-request-id': 'from-the-proxy', 'user-agent': 'containerd/2.1' }
    const answer = await ask('/v2/library/alpine/manifests/latest?token=secret', { headers })
    expect(answer.header('x-request-id')).toBe('from-the-proxy')
    await until(() => app.records.length === 1)
    const { id, method, path, kind, registry, repository, reference, cache } = app.records[0]!
    expect({ id, method, path, kind, registry, repository, reference, cache }).toEqual({
      id: 'from-the-proxy',
      method: 'GET',
      path: '/v2/library/alpine/manifests/latest',
      kind: 'manifest',
      registry: 'docker.io',
      repository: 'library/alpine',
      reference: 'latest',
      cache: 'hit',
    })
    expect(app.records[0]).toMatchObject({
      status: 200,
      bytes: MANIFEST.length,
      client: '127.0.0.1',
      userAgent: 'containerd/2.1',
      aborted: false,
    })
  })

  it('has an id of ours where the given one is not fit for a log', async () => {
    await start()
    const headers = { 'x-request-id': 'a b\tc' }
    const ids = [await ask('/v2/', { headers }), await ask('/v2/')].map((each) =>
      each.header('x-request-id'),
    )
    expect(ids[0]).toMatch(/^[0-9a-f]{10}-1$/)
    expect(ids[1]).toMatch(/^[0-9a-f]{10}-2$/)
  })

  it('is written for every request, also for pipelined ones whose turn never comes', async () => {
    const content = new FakeContent(patternBytes(1000), 0)
    await start({ blobs: blobsOf(() => content) })
    const get = `GET /v2/a/blobs/${content.digest} HTTP/1.1\r\nHost: x\r\n\r\n`
    const socket = connect(app.port, '127.0.0.1', () => socket.write(get + get + get))
    await until(() => app.running() === 3 && content.waiters === 3)
    socket.destroy()
    await until(() => app.running() === 0 && content.closed === 3)
    expect(app.records.every((record) => record.aborted)).toBe(true)
  })
})

describe('the addressing of a request', () => {
  it('reaches the router with ns and Host', async () => {
    const seen: object[] = []
    const route: Router['route'] = (target, naming) => {
      seen.push(naming)
      return plainRouter.route(target, naming)
    }
    await start({ registries: { route } })
    await ask('/v2/library/alpine/manifests/latest?ns=my.io%3A5000')
    await ask('/v2/library/alpine/manifests/latest?ns=')
    const host = `127.0.0.1:${app.port}`
    expect(seen).toEqual([{ ns: 'my.io:5000', host }, { host }])
  })
})
