// A download that goes on with what an earlier server left: who may read that is asked of the upstream
// while it is verified and kept.
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Digest } from '../src/oci/digest.ts'
import { filesBelow, openBelow } from './support/cache-files.ts'
import { mirrorOf, type RunningChandlery, startChandlery } from './support/chandlery.ts'
import { syntheticBytes } from './support/content.ts'
import type { ActiveFault, Fault } from './support/faults.ts'
import { type RawResponse, rawRequest } from './support/raw-client.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const BYTES = syntheticBytes('resumed', 0, 2 * 1024 * 1024)

let directory: TemporaryDirectory
/** Of the registry that gave the bytes, and of one that only names them. */
let first: TestRegistry
let second: TestRegistry
let chandlery: RunningChandlery
let digest: Digest

beforeEach(async () => {
  directory = await temporaryDirectory()
  first = await startRegistry()
  second = await startRegistry()
  await start()
})

afterEach(async () => {
  await chandlery.stop()
  await Promise.all([first.close(), second.close()])
  await directory.remove()
})

async function start(): Promise<void> {
  const config = mirrorOf('first.test', first.url)
  const { mirrors } = mirrorOf('second.test', second.url)
  const options = { ...config, mirrors: { ...config.mirrors, ...mirrors } }
  chandlery = await startChandlery(directory.path, options)
}

function cachePath(...parts: string[]): string {
  return join(directory.path, 'cache', ...parts)
}

async function metrics(): Promise<string> {
  return await (await fetch(`${chandlery.adminUrl}/metrics`)).text()
}

function urlOf(path: string, registry: string): string {
  return `${chandlery.url}/v2/${path}?ns=${registry}`
}

describe('a blob that an earlier server left complete but unverified', () => {
  let head: ActiveFault | undefined

  beforeEach(async () => {
    digest = first.addBlob(BYTES).digest
    const stall = { afterBytes: BYTES.length }
    first.fault({ match: { kind: 'blob', method: 'GET' }, announcedLength: 'none', stall })
    using cut = await rawRequest(urlOf(`team/app/blobs/${digest}`, 'first.test'))
    await expect
      .poll(async () => {
        const [path] = await filesBelow(cachePath('ingest'))
        return path === undefined ? 0 : (await stat(path)).size
      })
      .toBe(BYTES.length)
    const stopped = chandlery.stop()
    cut.leave()
    await stopped
    await start()
  })

  afterEach(() => head?.release())

  /**
   * Asks for it where a manifest of the second registry names it, waits until it is kept, and has that
   * registry say only then whether it has it.
   */
  async function askUntilKept(answer: Fault = {}): Promise<RawResponse> {
    const match = { kind: 'blob', method: 'HEAD' } as const
    const fault = second.fault({ ...answer, match, stall: 'headers' })
    head = fault
    second.addImage('team/app', 'v1', { layers: [BYTES] })
    const manifest = await fetch(urlOf('team/app/manifests/v1', 'second.test'))
    expect(manifest.status).toBe(200)
    const response = rawRequest(urlOf(`team/app/blobs/${digest}`, 'second.test'))
    response.catch(() => {}) // a test that failed before does not wait for it
    await expect.poll(() => fault.hits).toBe(1)
    await expect.poll(metrics).toContain('chandlery_downloads_total{outcome="kept"} 1')
    fault.release()
    return response
  }

  test('is served although it is kept, and its download ends, while the upstream is asked', async () => {
    using given = await askUntilKept()
    const { bytes, complete } = await given.body()
    expect([given.status, complete, bytes.equals(BYTES)]).toEqual([200, true, true])
    await expect.poll(() => openBelow(cachePath('blobs'))).toEqual([])
  })

  test('is not served to a client that may not read it, and its file is closed', async () => {
    using given = await askUntilKept({ status: 404 })
    expect(given.status).toBe(404)
    await expect.poll(() => openBelow(cachePath('blobs'))).toEqual([])
  })
})
