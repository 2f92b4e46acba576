// Manifests that lie about the size of a blob. Whoever may push one to a repository can name any digest
// with any size: that must cost nobody else their blob.
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Digest } from '../src/oci/digest.ts'
import { Blobs } from '../src/store/blobs/blobs.ts'
import { filesBelow } from './support/cache-files.ts'
import { mirrorOf, type RunningChandlery, startChandlery } from './support/chandlery.ts'
import { syntheticBytes } from './support/content.ts'
import { rawRequest } from './support/raw-client.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const MIB = 1024 * 1024
const REGISTRY = 'registry.test'
const OTHER_REGISTRY = 'other.test'
const BYTES = syntheticBytes('honest', 0, 2 * MIB)

let directory: TemporaryDirectory
let upstream: TestRegistry
let other: TestRegistry
let chandlery: RunningChandlery
let digest: Digest

beforeEach(async () => {
  directory = await temporaryDirectory()
  upstream = await startRegistry()
  other = await startRegistry()
  const { mirrors } = mirrorOf(OTHER_REGISTRY, other.url)
  const config = mirrorOf(REGISTRY, upstream.url)
  chandlery = await startChandlery(directory.path, {
    ...config,
    mirrors: { ...config.mirrors, ...mirrors },
  })
  digest = upstream.addImage('team/app', 'v1', { layers: [BYTES] }).layers[0]!.digest
  await pull('team/app', 'v1')
})

afterEach(async () => {
  vi.restoreAllMocks()
  await chandlery.stop()
  await Promise.all([upstream.close(), other.close()])
  await directory.remove()
})

function urlOf(path: string, registry = REGISTRY): string {
  return `${chandlery.url}/v2/${path}?ns=${registry}`
}

async function pull(repository: string, tag: string, registry?: string): Promise<void> {
  const response = await fetch(urlOf(`${repository}/manifests/${tag}`, registry))
  expect(response.status).toBe(200)
  await response.arrayBuffer()
}

/** Has the cache see a manifest of `repository` that claims this size of the blob. */
async function claim(repository: string, size: number, on = upstream): Promise<void> {
  const blob = { mediaType: 'application/octet-stream', digest, size }
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  on.addManifest(
    repository,
    { schemaVersion: 2, mediaType, config: blob, layers: [] },
    { tag: 'lie' },
  )
  await pull(repository, 'lie', on === other ? OTHER_REGISTRY : REGISTRY)
}

interface Got {
  readonly status: number
  readonly complete: boolean
  readonly bytes: Buffer
  readonly headers: Headers
}

async function get(
  repository: string,
  headers: Record<string, string> = {},
  registry = REGISTRY,
): Promise<Got> {
  using response = await rawRequest(urlOf(`${repository}/blobs/${digest}`, registry), { headers })
  return { status: response.status, headers: response.headers, ...(await response.body()) }
}

async function expectGood(got: Promise<Got>, bytes = BYTES): Promise<void> {
  const { complete, bytes: given, headers } = await got
  expect([complete, given.equals(bytes)]).toEqual([true, true])
  expect(headers.get('content-length')).toBe(String(bytes.length))
}

function below(part: 'blobs' | 'quarantine'): Promise<string[]> {
  return filesBelow(join(directory.path, 'cache', part))
}

describe('a held blob', () => {
  let file: string
  let inode: number

  beforeEach(async () => {
    await expectGood(get('team/app'))
    await expect.poll(() => below('blobs')).toHaveLength(1)
    file = (await below('blobs'))[0]!
    inode = (await stat(file)).ino
  })

  async function expectStillHeld(): Promise<void> {
    expect((await stat(file)).ino).toBe(inode)
    expect((await readFile(file)).equals(BYTES)).toBe(true)
    expect(await below('quarantine')).toEqual([])
  }

  test.each([
    ['more', BYTES.length + 1],
    ['fewer', 7],
    ['no', 0],
  ])('is kept, and is served as it is to a client that expects %s bytes', async (_what, size) => {
    await claim('lying/app', size)
    const asked = upstream.requestsFor(digest).length
    await expectGood(get('lying/app'))
    await expectGood(get('lying/app', { range: 'bytes=100-' }), BYTES.subarray(100))
    const head = await fetch(urlOf(`lying/app/blobs/${digest}`), { method: 'HEAD' })
    expect(head.headers.get('content-length')).toBe(String(BYTES.length))
    expect(upstream.requestsFor(digest).length).toBe(asked)
    await expectStillHeld()
  })

  test('is hashed once for twenty manifests that each claim another size', async () => {
    const verify = vi.spyOn(Blobs.prototype, 'verify')
    const names = Array.from({ length: 20 }, (_, index) => `lying/app-${index}`)
    await Promise.all(names.map((name, index) => claim(name, BYTES.length + 1 + index)))
    for (const name of names) await expectGood(get(name))
    expect(verify.mock.calls.length).toBe(1)
    await expectStillHeld()
  })

  test('is neither hashed nor touched for a client that may not read it', async () => {
    const verify = vi.spyOn(Blobs.prototype, 'verify')
    await claim('lying/app', 7, other)
    expect((await get('lying/app', {}, OTHER_REGISTRY)).status).toBe(404)
    expect(verify).not.toHaveBeenCalled()
    await expectStillHeld()
  })
})
