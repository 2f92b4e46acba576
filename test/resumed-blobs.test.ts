// A download that goes on with what an earlier server left: who may read that is asked of the upstream
// while it is verified and kept.
import { stat } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import { filesBelow, openBelow } from './support/cache-files.ts'
import { mirrorOf } from './support/chandlery.ts'
import { syntheticBytes } from './support/content.ts'
import type { Fault } from './support/faults.ts'
import type { RawResponse } from './support/raw-client.ts'
import { createWorld, type World } from './support/world.ts'

const BYTES = syntheticBytes('resumed', 0, 2 * 1024 * 1024)
const DIGEST = digestOf(BYTES)

/** In a registry that gave the bytes, and in one that only names them. */
const FIRST = { registry: 'first.test' }
const SECOND = { registry: 'second.test' }

/** A server on a directory in which an earlier one left all of the blob, fetched from the first registry. */
async function createResumedWorld(): Promise<World> {
  const world = await createWorld({
    upstreams: [{}, {}],
    config: ([first, second]) => ({
      mirrors: {
        ...mirrorOf(FIRST.registry, first!.url).mirrors,
        ...mirrorOf(SECOND.registry, second!.url).mirrors,
      },
    }),
  })
  world.upstream.addBlob(BYTES)
  const stall = { afterBytes: BYTES.length }
  world.upstream.fault({ match: { kind: 'blob', method: 'GET' }, announcedLength: 'none', stall })
  using cut = await world.client.openBlob(DIGEST, FIRST)
  await expect
    .poll(async () => {
      const [path] = await filesBelow(world.cache('ingest'))
      return path === undefined ? 0 : (await stat(path)).size
    })
    .toBe(BYTES.length)
  const stopped = world.server.stop()
  cut.leave()
  await stopped
  await world.start()
  return world
}

/**
 * Asks for it where a manifest of the second registry names it, waits until it is kept, and has that
 * registry say only then whether it has it.
 */
async function askUntilKept(world: World, answer: Fault = {}): Promise<RawResponse> {
  const { client, other } = world
  const match = { kind: 'blob', method: 'HEAD' } as const
  const fault = other.fault({ ...answer, match, stall: 'headers' })
  other.addImage('team/app', 'v1', { layers: [BYTES] })
  expect((await client.manifest('v1', SECOND)).status).toBe(200)
  const response = client.openBlob(DIGEST, SECOND)
  response.catch(() => {}) // a test that failed before does not wait for it
  try {
    await expect.poll(() => fault.hits).toBe(1)
    await expect.poll(() => client.metric('chandlery_downloads_total{outcome="kept"}')).toBe(1)
  } finally {
    fault.release()
  }
  return response
}

describe('a blob that an earlier server left complete but unverified', () => {
  test('is served although it is kept, and its download ends, while the upstream is asked', async () => {
    await using world = await createResumedWorld()
    using given = await askUntilKept(world)
    const { bytes, complete } = await given.body()
    expect([given.status, complete, bytes.equals(BYTES)]).toEqual([200, true, true])
    await expect.poll(() => openBelow(world.cache('blobs'))).toEqual([])
  })

  test('is not served to a client that may not read it, and its file is closed', async () => {
    await using world = await createResumedWorld()
    using given = await askUntilKept(world, { status: 404 })
    expect(given.status).toBe(404)
    await expect.poll(() => openBelow(world.cache('blobs'))).toEqual([])
  })
})
