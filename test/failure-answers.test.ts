// What clients, headers and metrics are told of failures, token servers' included: the failure
// table through a whole server.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { mirrorOf, type RunningChandlery, startChandlery } from './support/chandlery.ts'
import type { Fault } from './support/faults.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'
import { startTokenServer, type TestTokenServer } from './support/token-server.ts'

const REGISTRY = 'registry.test'
/** A token is good for so long, so that soon a new one is needed. */
const TOKEN_MS = 300
const LATER = { 'retry-after': '60' }

let directory: TemporaryDirectory
let tokens: TestTokenServer
let registry: TestRegistry
let chandlery: RunningChandlery

beforeEach(async () => {
  directory = await temporaryDirectory()
  tokens = await startTokenServer({ lifetimeMs: TOKEN_MS })
  registry = await startRegistry({ auth: { kind: 'token', tokens } })
  const freshness = { ttl: '0s', negativeTtl: '10s' }
  const config = { ...mirrorOf(REGISTRY, registry.url), freshness }
  chandlery = await startChandlery(directory.path, config)
})

afterEach(async () => {
  await chandlery.stop()
  await Promise.all([registry.close(), tokens.close()])
  await directory.remove()
})

async function get(path: string, method = 'GET') {
  const response = await fetch(`${chandlery.url}/v2/team/app/${path}?ns=${REGISTRY}`, { method })
  await response.arrayBuffer()
  const { status, headers } = response
  return { status, cache: headers.get('cache-status'), retryAfter: headers.get('retry-after') }
}

describe('a token server that fails', () => {
  test.each<[string, Fault, string, number]>([
    ['403', { status: 403 }, 'denied', 403],
    ['401', { status: 401 }, 'denied', 403],
    ['429', { status: 429, headers: LATER }, 'rate-limited', 503],
    ['500', { status: 500 }, 'upstream-error', 502],
    ['a reset', { resetAfter: -1 }, 'upstream-error', 502],
  ])('counts like the registry: %s', async (_what, fault, detail, status) => {
    registry.addImage('team/app', 'held')
    registry.addImage('team/app', 'cold')
    expect((await get('manifests/held')).status).toBe(200)
    tokens.fault(fault)
    await sleep(TOKEN_MS + 20)
    const held = await get('manifests/held')
    expect(held).toMatchObject({ status: 200, cache: expect.stringMatching(`detail=${detail}$`) })
    expect(await get('manifests/cold')).toMatchObject({ status })
    const text = await (await fetch(`${chandlery.adminUrl}/metrics`)).text()
    expect(text).toContain(`chandlery_stale_served_total{reason="${detail}"} 1`)
  })
})

describe('a 404 that is remembered', () => {
  test.each([
    'manifests/gone',
    `manifests/sha256:${'0'.repeat(64)}`,
    `blobs/sha256:${'0'.repeat(64)}`,
  ])('says that nobody was asked: %s', async (path) => {
    expect(await get(path)).toMatchObject({
      status: 404,
      cache: 'chandlery; fwd=uri-miss; fwd-status=404; detail=not-found',
    })
    const asked = registry.requests.length
    for (const method of ['GET', 'HEAD']) {
      expect(await get(path, method)).toMatchObject({
        status: 404,
        cache: 'chandlery; hit; detail=negative',
      })
    }
    expect(registry.requests).toHaveLength(asked)
  })
})

describe('a registry that limits us', () => {
  test('never has a client told 429, but when to come back', async () => {
    const image = registry.addImage('team/app', 'latest')
    registry.fault({ status: 429, headers: LATER })
    const { digest } = image
    const paths = [
      'manifests/latest',
      `manifests/${digest}`,
      `blobs/${image.layers[0]?.digest}`,
      'tags/list',
      `referrers/${digest}`,
    ]
    for (const path of paths) {
      const { status, retryAfter } = await get(path)
      expect({ path, status }).toEqual({ path, status: 503 })
      expect(Number(retryAfter)).toBeGreaterThan(50)
    }
  })
})
