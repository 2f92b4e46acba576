// The main job, end to end: a registry, Chandlery as `serve` composes it, and clients on sockets.
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../src/oci/digest.ts'
import { mirrorOf, type RunningChandlery, startChandlery } from './support/chandlery.ts'
import { syntheticBytes } from './support/content.ts'
import { rawRequest } from './support/raw-client.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const MIB = 1024 * 1024
const REGISTRY = 'registry.test'

let directory: TemporaryDirectory
let upstream: TestRegistry
let chandlery: RunningChandlery

beforeEach(async () => {
  directory = await temporaryDirectory()
  upstream = await startRegistry()
  chandlery = await startChandlery(directory.path, mirrorOf(REGISTRY, upstream.url))
})

afterEach(async () => {
  await chandlery.stop()
  await upstream.close()
  await directory.remove()
})

function blobUrl(digest: string, repository = 'team/app'): string {
  return `${chandlery.url}/v2/${repository}/blobs/${digest}?ns=${REGISTRY}`
}

async function fetchBytes(url: string, headers: Record<string, string> = {}): Promise<Buffer> {
  const response = await fetch(url, { headers })
  expect(response.ok, `${response.status} of ${url}`).toBe(true)
  return Buffer.from(await response.arrayBuffer())
}

async function pull(reference: string, digest: string): Promise<void> {
  const base = `${chandlery.url}/v2/team/app`
  const head = await fetch(`${base}/manifests/${reference}?ns=${REGISTRY}`, { method: 'HEAD' })
  expect(head.headers.get('docker-content-digest')).toBe(digest)
  const seen = [digest]
  for (const each of seen) {
    const bytes = await fetchBytes(`${base}/manifests/${each}?ns=${REGISTRY}`)
    expect(digestOf(bytes)).toBe(each)
    const { manifests = [], layers = [], config } = JSON.parse(bytes.toString())
    for (const child of manifests) seen.push(child.digest)
    for (const blob of config ? [config, ...layers] : [])
      expect(digestOf(await fetchBytes(blobUrl(blob.digest)))).toBe(blob.digest)
  }
  expect(seen).toHaveLength(3)
}

describe('one cold blob and fifty clients', () => {
  test('cost the upstream its bytes once; who leaves or crawls harms nobody', async () => {
    const size = 6 * MIB
    const { digest } = upstream.addSyntheticBlob(size, 'herd')
    upstream.fault({
      match: { kind: 'blob', method: 'GET' },
      drip: { bytes: MIB / 4, everyMs: 40 },
    })
    const expected = syntheticBytes('herd', 0, size)
    using leaver = await rawRequest(blobUrl(digest))
    using crawler = await rawRequest(blobUrl(digest))
    const early = Array.from({ length: 24 }, () => fetchBytes(blobUrl(digest)))
    await leaver.read(100_000)
    leaver.leave()
    const crawl = (async () => {
      for (let read = 0; read < 20; read++) {
        await crawler.read(1000)
        await sleep(50)
      }
      return await crawler.body()
    })()
    await sleep(300)
    const late = Array.from({ length: 24 }, () => fetchBytes(blobUrl(digest)))
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

  test('gives no client a complete body, leaves nothing behind, and the next good answer is kept', async () => {
    const { digest } = upstream.addSyntheticBlob(size, 'corrupt')
    const fault = upstream.fault({ match: { kind: 'blob' }, corruptAt: 3 * MIB })
    const answers = await Promise.all(
      Array.from({ length: 5 }, async () => (await rawRequest(blobUrl(digest))).body()),
    )
    expect(answers.map(({ complete }) => complete)).toEqual([false, false, false, false, false])
    fault.remove()
    expect((await fetchBytes(blobUrl(digest))).equals(syntheticBytes('corrupt', 0, size))).toBe(
      true,
    )
    await upstream.stop()
    expect((await fetchBytes(blobUrl(digest))).length).toBe(size)
  })

  test('gives nothing more to a client that resumes at its offset, as containerd does', async () => {
    const { digest } = upstream.addSyntheticBlob(size, 'resume')
    upstream.fault({ match: { kind: 'blob' }, corruptAt: 3 * MIB })
    let offset = 0
    for (let tries = 0; tries < 4; tries++) {
      const range: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {}
      const response = await rawRequest(blobUrl(digest), { headers: range })
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
      const image = upstream.addImage('team/app', 'v1', { type, multiArch: true })
      await pull('v1', image.digest)
      await upstream.stop()
      await pull('v1', image.digest)
    },
  )
})

describe('a restart', () => {
  test('serves what was held without asking the upstream', async () => {
    const image = upstream.addImage('team/app', 'v1')
    const layer = image.layers[0]!.digest
    const manifest = () => `${chandlery.url}/v2/team/app/manifests/v1?ns=${REGISTRY}`
    await fetchBytes(manifest())
    await fetchBytes(blobUrl(layer))
    await chandlery.stop()
    await upstream.stop()
    chandlery = await startChandlery(directory.path, mirrorOf(REGISTRY, upstream.url))
    expect(digestOf(await fetchBytes(manifest()))).toBe(image.digest)
    expect(digestOf(await fetchBytes(blobUrl(layer)))).toBe(layer)
  })
})
