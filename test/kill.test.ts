// The real process, killed at any moment: what was held is served again, what was half there is
// cleared away, and nothing wrong is ever given or kept.
import { readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { type Digest, digestOf } from '../src/oci/digest.ts'
import { Chandlery } from './e2e/chandlery.ts'
import { expectVerified, filesBelow } from './support/cache-files.ts'
import { TestClient } from './support/client.ts'
import { syntheticBytes } from './support/content.ts'
import type { TestRegistry } from './support/registry.ts'
import { until } from './support/until.ts'
import { createWorld } from './support/world.ts'

const MIB = 1024 * 1024
const SIZE = 4 * MIB
/** A download of SIZE takes as long. */
const DOWNLOAD_MS = 250
const DRIP = { bytes: SIZE / 25, everyMs: DOWNLOAD_MS / 25 }

interface ProcessWorld extends AsyncDisposable {
  readonly upstream: TestRegistry
  readonly chandlery: Chandlery
  readonly client: TestClient
}

/** A registry, and the real process in front of it, started. */
async function createProcessWorld(): Promise<ProcessWorld> {
  const world = await createWorld({ started: false })
  const { upstream, directory, config } = world
  const chandlery = await Chandlery.create({ directory: directory.path, config })
  const dispose = async () => {
    await chandlery.stop('SIGKILL')
    await world[Symbol.asyncDispose]()
  }
  await chandlery.start()
  const client = new TestClient(chandlery)
  return { upstream, chandlery, client, [Symbol.asyncDispose]: dispose }
}

/** The blob as it came; undefined where the answer was not complete, or there was none. */
async function pull(client: TestClient, digest: Digest): Promise<Buffer | undefined> {
  try {
    using response = await client.openBlob(digest)
    const { bytes, complete } = await response.body()
    return response.status === 200 && complete ? bytes : undefined
  } catch {
    return undefined
  }
}

const filesIn = ({ cache }: Chandlery, under: string) => filesBelow(join(cache, under))

async function verified(chandlery: Chandlery): Promise<string[]> {
  const kept = await filesIn(chandlery, 'blobs')
  await expectVerified(kept)
  return kept
}

describe.concurrent('a server that is killed', () => {
  test('at any moment of a download leaves good blobs or none, and continues when it is started again', async () => {
    await using world = await createProcessWorld()
    const { upstream, chandlery, client } = world
    upstream.fault({ match: { kind: 'blob' }, drip: DRIP })
    const held: Digest[] = []
    for (let kill = 0; kill < 4; kill++) {
      const bytes = syntheticBytes(`kill ${kill}`, 0, SIZE)
      const { digest } = upstream.addBlob(bytes)
      const pulls = [pull(client, digest), pull(client, digest)]
      // Now and then in the very moment in which it is committed.
      await sleep(kill === 0 ? DOWNLOAD_MS : Math.random() * DOWNLOAD_MS * 1.3)
      await chandlery.stop('SIGKILL')
      for (const got of await Promise.all(pulls)) {
        if (got) expect(got.equals(bytes)).toBe(true)
      }
      const kept = await verified(chandlery)
      await chandlery.start()
      expect(await filesIn(chandlery, 'owner')).toHaveLength(1)
      for (const each of held) expect(kept.map((path) => basename(path))).toContain(each.slice(7))
      expect((await pull(client, digest))?.equals(bytes)).toBe(true)
      await until(async () => (await filesIn(chandlery, 'ingest')).length === 0)
      held.push(digest)
    }
    await upstream.stop()
    for (const digest of held) {
      const got = await pull(client, digest)
      expect(got && digestOf(got)).toBe(digest)
    }
  })
})

test(
  'a server that is killed on a slow line fetches again only what came since its last checkpoint',
  { timeout: 60_000 },
  async () => {
    await using world = await createProcessWorld()
    const { upstream, chandlery, client } = world
    const bytes = syntheticBytes('slow', 0, 24 * MIB)
    const { digest } = upstream.addBlob(bytes)
    // 24 MiB take ten seconds: far less than 64 MiB come before the kill.
    upstream.fault({ match: { kind: 'blob' }, drip: { bytes: MIB / 8, everyMs: 50 } })
    const pulled = pull(client, digest)
    await expect
      .poll(() => upstream.bytesSent(digest), { timeout: 30_000, interval: 20 })
      .toBeGreaterThan(8 * MIB)
    await chandlery.stop('SIGKILL')
    expect(await pulled).toBeUndefined()
    const [note] = (await filesIn(chandlery, 'ingest')).filter((path) => path.endsWith('.json'))
    const { have } = JSON.parse(await readFile(note ?? '', 'utf8')) as { have: [number, number][] }
    const noted = have.reduce((sum, [start, end]) => sum + end - start, 0)
    expect(noted).toBeGreaterThan(2 * MIB)
    upstream.clearFaults()
    const before = upstream.bytesSent(digest)
    await chandlery.start()
    expect((await pull(client, digest))?.equals(bytes)).toBe(true)
    expect(upstream.bytesSent(digest) - before).toBe(bytes.length - noted)
  },
)

describe.concurrent('a server that is told to stop', () => {
  test('in the middle of a download completes it, keeps it, and exits with 0', async () => {
    await using world = await createProcessWorld()
    const { upstream, chandlery, client } = world
    const bytes = syntheticBytes('term', 0, SIZE)
    const { digest } = upstream.addBlob(bytes)
    upstream.fault({ match: { kind: 'blob' }, drip: DRIP })
    const pulled = pull(client, digest)
    await until(() => upstream.bytesSent(digest) > SIZE / 2)
    expect(await chandlery.stop('SIGTERM')).toBe(0)
    expect((await pulled)?.equals(bytes)).toBe(true)
    expect(await filesIn(chandlery, 'ingest')).toEqual([])
    expect(await filesIn(chandlery, 'owner')).toEqual([])
    expect((await verified(chandlery)).map((path) => basename(path))).toEqual([digest.slice(7)])
  })

  test('twice at once, as Ctrl-C under npm does, still completes a download', async () => {
    await using world = await createProcessWorld()
    const { upstream, chandlery, client } = world
    const bytes = syntheticBytes('twice', 0, SIZE)
    const { digest } = upstream.addBlob(bytes)
    upstream.fault({ match: { kind: 'blob' }, drip: DRIP })
    const pulled = pull(client, digest)
    await until(() => upstream.bytesSent(digest) > SIZE / 4)
    process.kill(chandlery.pid, 'SIGINT')
    await sleep(DOWNLOAD_MS / 10)
    expect(await chandlery.stop('SIGINT')).toBe(0)
    expect((await pulled)?.equals(bytes)).toBe(true)
  })

  test('again after a while ends at once', async () => {
    await using world = await createProcessWorld()
    const { upstream, chandlery, client } = world
    const { digest } = upstream.addSyntheticBlob(SIZE, 'impatient')
    upstream.fault({ match: { kind: 'blob' }, stall: { afterBytes: SIZE / 2 } })
    using response = await client.openBlob(digest)
    await response.read(MIB)
    process.kill(chandlery.pid, 'SIGTERM')
    await sleep(1_100)
    expect(await chandlery.stop('SIGTERM')).toBe(1)
  })

  test('while nobody waits for a download abandons it at once', async () => {
    await using world = await createProcessWorld()
    const { upstream, chandlery, client } = world
    const { digest } = upstream.addSyntheticBlob(SIZE, 'abandoned')
    upstream.fault({ match: { kind: 'blob' }, stall: { afterBytes: SIZE / 2 } })
    using response = await client.openBlob(digest)
    await response.read(MIB)
    response.leave()
    const startedAt = performance.now()
    expect(await chandlery.stop('SIGTERM')).toBe(0)
    expect(performance.now() - startedAt).toBeLessThan(3000)
    expect([await filesIn(chandlery, 'blobs'), await filesIn(chandlery, 'owner')]).toEqual([[], []])
  })
})
