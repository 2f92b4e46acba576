// The main job, end to end: a registry, Chandlery as `serve` composes it, and clients on sockets.
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import type { Got, TestClient } from './support/client.ts'
import { syntheticBytes } from './support/content.ts'
import { until } from './support/until.ts'
import { createWorld } from './support/world.ts'

const MIB = 1024 * 1024

/** The content of what was asked for. */
async function bytesOf(got: Promise<Got>): Promise<Buffer> {
  const answer = await got
  if (answer.status !== 200) throw new Error(`${answer.status}: ${answer.text}`)
  return answer.bytes
}

async function pull(client: TestClient, reference: string, digest: string): Promise<void> {
  const head = await client.manifest(reference, { method: 'HEAD' })
  expect(head.headers.get('docker-content-digest')).toBe(digest)
  const seen = [digest]
  for (const each of seen) {
    const bytes = await bytesOf(client.manifest(each))
    expect(digestOf(bytes)).toBe(each)
    const { manifests = [], layers = [], config } = JSON.parse(bytes.toString())
    for (const child of manifests) seen.push(child.digest)
    for (const blob of config ? [config, ...layers] : [])
      expect(digestOf(await bytesOf(client.blob(blob.digest)))).toBe(blob.digest)
  }
  expect(seen).toHaveLength(3)
}

describe('one cold blob and fifty clients', () => {
  test('cost the upstream its bytes once, and clients that leave or crawl harm nobody', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const size = 2 * MIB
    const { digest } = upstream.addSyntheticBlob(size, 'herd')
    upstream.fault({
      match: { kind: 'blob', method: 'GET' },
      drip: { bytes: MIB / 16, everyMs: 30 },
    })
    const expected = syntheticBytes('herd', 0, size)
    using leaver = await client.openBlob(digest)
    using crawler = await client.openBlob(digest)
    const early = Array.from({ length: 24 }, () => bytesOf(client.blob(digest)))
    await leaver.read(100_000)
    leaver.leave()
    const crawl = (async () => {
      for (let read = 0; read < 20; read++) {
        await crawler.read(1000)
        await sleep(50)
      }
      return await crawler.body()
    })()
    await until(() => upstream.bytesSent(digest) > size / 4)
    const late = Array.from({ length: 24 }, () => bytesOf(client.blob(digest)))
    for (const bytes of await Promise.all([...early, ...late]))
      expect(bytes.equals(expected)).toBe(true)
    const crawled = await crawl
    expect(crawled.complete).toBe(true)
    expect(crawled.bytes.equals(expected.subarray(20_000))).toBe(true)
    expect(upstream.bytesSent(digest)).toBe(size)
    expect(upstream.requestsFor(digest).filter(({ method }) => method === 'GET')).toHaveLength(1)
  })
})

describe('a corrupt upstream', () => {
  const size = 4 * MIB

  test('gives no client a complete body and leaves nothing behind, and the next good response is kept', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const { digest } = upstream.addSyntheticBlob(size, 'corrupt')
    const fault = upstream.fault({ match: { kind: 'blob' }, corruptAt: 3 * MIB })
    const answers = await Promise.all(
      Array.from({ length: 5 }, async () => (await client.openBlob(digest)).body()),
    )
    expect(answers.map(({ complete }) => complete)).toEqual([false, false, false, false, false])
    fault.remove()
    expect((await bytesOf(client.blob(digest))).equals(syntheticBytes('corrupt', 0, size))).toBe(
      true,
    )
    await upstream.stop()
    expect((await bytesOf(client.blob(digest))).length).toBe(size)
  })

  test('gives nothing more to a client that resumes at its offset, as containerd does', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const { digest } = upstream.addSyntheticBlob(size, 'resume')
    upstream.fault({ match: { kind: 'blob' }, corruptAt: 3 * MIB })
    let offset = 0
    for (let tries = 0; tries < 4; tries++) {
      const range: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {}
      const response = await client.openBlob(digest, { headers: range })
      const { bytes, complete } = await response.body()
      expect(complete && response.status < 300).toBe(false)
      if (response.status < 300) offset += bytes.length
      expect(offset).toBeLessThan(size)
    }
  })
})

describe('an image', () => {
  test.each(['oci', 'docker'] as const)(
    'of type %s is pulled whole, and again when the upstream is gone',
    async (type) => {
      await using world = await createWorld()
      const { upstream, client } = world
      const image = upstream.addImage('team/app', 'v1', { type, multiArch: true })
      await pull(client, 'v1', image.digest)
      await upstream.stop()
      await pull(client, 'v1', image.digest)
    },
  )
})

describe('a restart', () => {
  test('serves held content without asking the upstream', async () => {
    await using world = await createWorld()
    const { upstream, client } = world
    const image = upstream.addImage('team/app', 'v1')
    const layer = image.layers[0]!.digest
    await bytesOf(client.manifest('v1'))
    await bytesOf(client.blob(layer))
    await world.server.stop()
    await upstream.stop()
    await world.start()
    expect(digestOf(await bytesOf(client.manifest('v1')))).toBe(image.digest)
    expect(digestOf(await bytesOf(client.blob(layer)))).toBe(layer)
  })
})
