// What clients, headers and metrics are told of failures, token servers' included: the failure
// table through a whole server.
import { describe, expect, test } from 'vitest'
import type { Fault } from './support/faults.ts'
import { startTokenServer, type TestTokenServer } from './support/token-server.ts'
import { createWorld, type World } from './support/world.ts'

const LATER = { 'retry-after': '60' }

/** A registry behind a token server, and a cache that asks for a tag each time. */
function createTokenWorld(tokens: TestTokenServer): Promise<World> {
  return createWorld({
    upstreams: [{ auth: { kind: 'token', tokens } }],
    config: { freshness: { ttl: '0s', negativeTtl: '10s' } },
  })
}

async function get({ client }: World, path: string, method = 'GET') {
  const { status, headers } = await client.get(path, { method })
  return { status, cache: headers.get('cache-status'), retryAfter: headers.get('retry-after') }
}

describe('a token server that fails', () => {
  test.each<[string, Fault, string, number]>([
    ['403', { status: 403 }, 'denied', 403],
    ['401', { status: 401 }, 'denied', 403],
    ['429', { status: 429, headers: LATER }, 'rate-limited', 503],
    ['500', { status: 500 }, 'upstream-error', 502],
    ['a reset', { resetAfter: -1 }, 'upstream-error', 502],
  ])('with %s counts like a registry that fails', async (_what, fault, detail, status) => {
    await using tokens = await startTokenServer()
    await using world = await createTokenWorld(tokens)
    const { upstream } = world
    upstream.addImage('team/app', 'held')
    upstream.addImage('team/app', 'cold')
    expect((await get(world, 'manifests/held')).status).toBe(200)
    tokens.fault(fault)
    tokens.revokeAll()
    const held = await get(world, 'manifests/held')
    expect(held).toMatchObject({ status: 200, cache: expect.stringMatching(`detail=${detail}$`) })
    expect(await get(world, 'manifests/cold')).toMatchObject({ status })
    expect(await world.client.metric(`chandlery_stale_served_total{reason="${detail}"}`)).toBe(1)
  })
})

describe('a remembered 404', () => {
  test.each([
    'manifests/gone',
    `manifests/sha256:${'0'.repeat(64)}`,
    `blobs/sha256:${'0'.repeat(64)}`,
  ])('for %s says that nobody was asked', async (path) => {
    await using tokens = await startTokenServer()
    await using world = await createTokenWorld(tokens)
    const { upstream } = world
    expect(await get(world, path)).toMatchObject({
      status: 404,
      cache: 'chandlery; fwd=uri-miss; fwd-status=404; detail=not-found',
    })
    const asked = upstream.requests.length
    for (const method of ['GET', 'HEAD']) {
      expect(await get(world, path, method)).toMatchObject({
        status: 404,
        cache: 'chandlery; hit; detail=negative',
      })
    }
    expect(upstream.requests).toHaveLength(asked)
  })
})

describe('a registry that is rate-limiting us', () => {
  test('never leads to a 429 for a client, but to a Retry-After', async () => {
    await using tokens = await startTokenServer()
    await using world = await createTokenWorld(tokens)
    const { upstream } = world
    const image = upstream.addImage('team/app', 'latest')
    upstream.fault({ status: 429, headers: LATER })
    const { digest } = image
    const paths = [
      'manifests/latest',
      `manifests/${digest}`,
      `blobs/${image.layers[0]?.digest}`,
      'tags/list',
      `referrers/${digest}`,
    ]
    for (const path of paths) {
      const { status, retryAfter } = await get(world, path)
      expect({ path, status }).toEqual({ path, status: 503 })
      expect(Number(retryAfter)).toBeGreaterThan(50)
    }
  })
})
