// The blob path of the whole server, where upstreams, disks and clients misbehave.
import { mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { describe, expect, test } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import { filesBelow } from './support/cache-files.ts'
import type { Got } from './support/client.ts'
import { syntheticBytes } from './support/content.ts'
import { until } from './support/until.ts'
import { createWorld } from './support/world.ts'

const MIB = 1024 * 1024
const PAGE = '<!doctype html><title>Sign in</title>'
const PAGE_FAULT = { status: 200, body: PAGE, headers: { 'content-type': 'text/html' } }
const WRONG_FAULT = { status: 200, body: 'please try again later' }

async function namesBelow(path: string): Promise<string[]> {
  return (await filesBelow(path)).map((each) => basename(each))
}

async function readJson(got: Promise<Got>): Promise<{ status: number; code: string }> {
  const { status, text } = await got
  const body: { errors?: { code: string }[] } = JSON.parse(text)
  return { status, code: body.errors?.[0]?.code ?? '' }
}

describe('a wrong size', () => {
  test('that is known when a server restarts is forgotten', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const bytes = syntheticBytes('too long', 0, 2 * MIB)
    const { digest } = upstream.addBlob(bytes)
    const tooMany = bytes.length + 7
    const stall = { afterBytes: tooMany }
    const fault = { bodyLength: tooMany, announcedLength: 'none', stall, times: 1 } as const
    upstream.fault({ match: { kind: 'blob', method: 'GET' }, ...fault })
    using cut = await client.openBlob(digest)
    const ingested = async () => {
      const [path] = await filesBelow(world.cache('ingest'))
      return path !== undefined && (await stat(path)).size === tooMany
    }
    await until(ingested)
    const stopped = world.server.stop()
    cut.leave()
    await stopped
    await world.start()
    const got = await client.blob(digest)
    expect(got.status).toBe(200)
    expect(got.bytes.equals(bytes)).toBe(true)
    await until(async () => (await namesBelow(world.cache('blobs'))).length === 1)
    expect(await namesBelow(world.cache('ingest'))).toEqual([])
  })

  test('in a GET is believed for that GET only', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const image = upstream.addImage('team/app', 'v1')
    const { digest, size } = image.layers[0]!
    await client.manifest('v1')
    const fault = upstream.fault({ match: { kind: 'blob' }, ...WRONG_FAULT })
    expect((await client.blob(digest)).status).toBe(502)
    fault.remove()
    const good = await client.blob(digest)
    expect(good.status).toBe(200)
    expect(good.bytes.length).toBe(size)
    expect(digestOf(good.bytes)).toBe(digest)
    await upstream.stop()
    expect((await client.blob(digest)).status).toBe(200)
  })

  test('in a HEAD is believed for that HEAD only', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const image = upstream.addImage('team/app', 'v1')
    const { digest, size } = image.layers[0]!
    await client.manifest('v1')
    upstream.fault({ match: { kind: 'blob', method: 'HEAD' }, announcedLength: 17, times: 1 })
    await client.blob(digest, { method: 'HEAD' })
    const good = await client.blob(digest)
    expect(good.status).toBe(200)
    await until(async () => (await namesBelow(world.cache('blobs'))).length === 1)
    await upstream.stop()
    expect((await client.blob(digest)).bytes.length).toBe(size)
    const head = await client.blob(digest, { method: 'HEAD' })
    expect(head.headers.get('content-length')).toBe(String(size))
    expect(head.headers.get('cache-status')).toContain('hit')
  })

  test.each([undefined, 'bytes=0-', 'bytes=-1000000'])(
    'does not end a download that finds a better source before anything was sent (Range: %s)',
    async (range) => {
      await using world = await createWorld({ upstreams: [{}, {}] })
      const { upstream, other, client } = world
      const bytes = syntheticBytes('better', 0, 2 * MIB)
      upstream.addBlob(bytes)
      const { digest } = other.addBlob(bytes)
      upstream.fault({ match: { kind: 'blob' }, ...WRONG_FAULT })
      const good = await client.blob(digest, range === undefined ? {} : { headers: { range } })
      expect(good.status).toBe(range === undefined ? 200 : 206)
      const expected = range === 'bytes=-1000000' ? bytes.subarray(-1_000_000) : bytes
      expect(good.headers.get('content-length')).toBe(String(expected.length))
      expect(good.bytes.equals(expected)).toBe(true)
    },
  )

  test('leaves no connection waiting for a body that nobody reads', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const image = upstream.addImage('team/app', 'v1', { layers: [syntheticBytes('w', 0, 4 * MIB)] })
    const { digest } = image.layers[0]!
    await client.manifest('v1')
    upstream.fault({ match: { kind: 'blob' }, bodyLength: 5 * MIB, announcedLength: 5 * MIB })
    for (let tries = 0; tries < 3; tries++) {
      expect((await client.blob(digest)).status).toBe(502)
    }
    await until(() => upstream.connections <= 2)
  })
})

describe('a page instead of a blob', () => {
  test('does not prove who may read the blob', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const { digest } = upstream.addBlob(Buffer.from('private'), { repository: 'team/app' })
    const fault = upstream.fault({ match: { repository: 'other/app' }, ...PAGE_FAULT })
    expect((await client.blob(digest, { repository: 'other/app' })).status).toBe(502)
    fault.remove()
    expect((await client.blob(digest)).status).toBe(200)
    expect((await client.blob(digest, { repository: 'other/app' })).status).toBe(404)
  })
})

describe('a client that joins a download', () => {
  test('is served by it although it ends while the upstream is asked for permission', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const bytes = syntheticBytes('joined', 0, 2 * MIB)
    const { digest } = upstream.addBlob(bytes)
    const slow = upstream.fault({
      match: { kind: 'blob', method: 'GET' },
      stall: { afterBytes: MIB },
    })
    upstream.fault({ match: { kind: 'blob', method: 'HEAD' }, delayMs: 300 })
    using first = await client.openBlob(digest)
    const joined = client.blob(digest, { repository: 'other/app' })
    await until(() => upstream.requests.some(({ method }) => method === 'HEAD'))
    slow.release()
    expect((await first.body()).complete).toBe(true)
    const { status, bytes: got } = await joined
    expect(status).toBe(200)
    expect(got.equals(bytes)).toBe(true)
    const methods = upstream.requestsFor(digest).map(({ method }) => method)
    expect(methods.toSorted()).toEqual(['GET', 'HEAD']) // it is not fetched once more
  })

  test('does not get access by having started it without permission', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const layers = [syntheticBytes('began', 0, 2 * MIB)]
    const { digest } = upstream.addImage('team/app', 'v1', { layers }).layers[0]!
    await client.manifest('v1')
    upstream.fault({ match: { kind: 'blob', repository: 'other/app' }, delayMs: 200 })
    const began = client.blob(digest, { repository: 'other/app' })
    await until(() => upstream.requestsFor(digest).length === 1)
    expect((await client.blob(digest)).bytes.equals(layers[0]!)).toBe(true)
    expect((await began).status).toBe(404)
  })

  test('is refused where the upstream refuses it, and the download goes on', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const bytes = syntheticBytes('refused', 0, 2 * MIB)
    const { digest } = upstream.addBlob(bytes, { repository: 'team/app' })
    const slow = upstream.fault({
      match: { kind: 'blob', method: 'GET' },
      stall: { afterBytes: MIB },
    })
    using first = await client.openBlob(digest)
    expect((await client.blob(digest, { repository: 'other/app' })).status).toBe(404)
    slow.release()
    expect((await first.body()).complete).toBe(true)
  })
})

describe('a body that ends too early', () => {
  test.each([
    ['exactly at its end, by a closed connection,', 2 * MIB, 1],
    ['in the middle', MIB + 7, 2],
  ])('%s is completed', async (_what, cutAfter, requests) => {
    await using world = await createWorld()
    const { upstream, client } = world
    const bytes = syntheticBytes('early', 0, 2 * MIB)
    const { digest } = upstream.addImage('team/app', 'v1', { layers: [bytes] }).layers[0]!
    await client.manifest('v1')
    upstream.fault({
      match: { kind: 'blob', method: 'GET' },
      times: 1,
      announcedLength: 'none',
      cutAfter,
    })
    const good = await client.blob(digest)
    expect(good.status).toBe(200)
    expect(good.bytes.equals(bytes)).toBe(true)
    expect(upstream.requestsFor(digest)).toHaveLength(requests)
    expect(upstream.bytesSent(digest)).toBe(2 * MIB)
  })
})

describe('a cache that cannot be written', () => {
  test('costs the entry and not the pull, and is logged', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const { digest } = upstream.addSyntheticBlob(MIB, 'unwritten')
    const ingest = world.cache('ingest')
    await rm(ingest, { recursive: true })
    await writeFile(ingest, 'in the way')
    const got = await client.blob(digest)
    expect([got.status, digestOf(got.bytes)]).toEqual([200, digest])
    await until(() => world.server.log.some(({ msg }) => String(msg).includes('write failed')))
    await rm(ingest)
    await mkdir(ingest)
    expect((await client.blob(digest)).bytes.length).toBe(MIB)
  })

  test('costs the entry and not the pull where only the folder for blobs is lost', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const bytes = syntheticBytes('uncommitted', 0, MIB)
    const { digest } = upstream.addBlob(bytes)
    await rm(world.cache('blobs'), { recursive: true, force: true })
    await writeFile(world.cache('blobs'), 'in the way')
    expect((await client.blob(digest)).bytes.equals(bytes)).toBe(true)
    expect((await client.blob(digest)).bytes.equals(bytes)).toBe(true)
    await until(async () => (await namesBelow(world.cache('ingest'))).length === 0)
  })
})

describe('a blob that no endpoint has', () => {
  test('is requested once within negativeTtl', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const digest = digestOf(Buffer.from('nowhere'))
    for (const method of ['GET', 'GET', 'HEAD', 'GET']) {
      expect((await client.blob(digest, { method })).status).toBe(404)
    }
    expect(upstream.requestsFor(digest)).toHaveLength(1)
  })
})

describe('an upstream that fails a blob request', () => {
  const cases: [string, object, { status: number; code: string }][] = [
    ['404', { status: 404 }, { status: 404, code: 'BLOB_UNKNOWN' }],
    ['403', { status: 403 }, { status: 403, code: 'DENIED' }],
    ['401 without a challenge', { status: 401 }, { status: 403, code: 'DENIED' }],
    ['500', { status: 500 }, { status: 502, code: 'UNAVAILABLE' }],
    ['503', { status: 503 }, { status: 502, code: 'UNAVAILABLE' }],
    ['a page with 200', PAGE_FAULT, { status: 502, code: 'UNAVAILABLE' }],
    ['something else with 200', WRONG_FAULT, { status: 502, code: 'UNAVAILABLE' }],
    ['a reset before the head', { resetAfter: -1 }, { status: 502, code: 'UNAVAILABLE' }],
    // The last one: nothing more is asked for 77 s.
    [
      '429',
      { status: 429, headers: { 'retry-after': '77' } },
      { status: 503, code: 'TOOMANYREQUESTS' },
    ],
  ]
  test.each(cases)(
    'with %s leads to what the failure table says',
    async (_what, fault, expected) => {
      await using world = await createWorld()
      const { upstream, client } = world
      const { digest } = upstream.addSyntheticBlob(MIB, 'table')
      upstream.fault({ match: { kind: 'blob' }, ...fault })
      expect(await readJson(client.blob(digest))).toEqual(expected)
      upstream.clearFaults()
      const stays = expected.status === 404 || expected.code === 'TOOMANYREQUESTS'
      if (!stays) expect((await client.blob(digest)).status).toBe(200)
    },
  )
})
