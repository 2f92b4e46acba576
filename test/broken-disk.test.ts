// The whole server on a disk that fails: full, read-only, emptied by hand. Every pull works all the
// same, and content is kept again once it can be.
import { execFileSync } from 'node:child_process'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Digest, digestOf } from '../src/oci/digest.ts'
import { mirrorOf, type RunningChandlery, startChandlery } from './support/chandlery.ts'
import { failFiles } from './support/failing-files.ts'
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
})

afterEach(async () => {
  await chandlery.stop()
  await upstream.close()
  await directory.remove()
})

async function start(): Promise<void> {
  chandlery = await startChandlery(directory.path, mirrorOf(REGISTRY, upstream.url))
}

async function pull(digest: Digest, headers: Record<string, string> = {}): Promise<Buffer> {
  const url = `${chandlery.url}/v2/team/app/blobs/${digest}?ns=${REGISTRY}`
  const response = await fetch(url, { headers })
  expect(response.ok).toBe(true)
  return Buffer.from(await response.arrayBuffer())
}

async function admin(path: string): Promise<string> {
  return await (await fetch(`${chandlery.adminUrl}${path}`)).text()
}

async function storeErrors(operation: string): Promise<number> {
  const name = `chandlery_store_errors_total{operation="${operation}"} `
  const line = (await admin('/metrics')).split('\n').find((each) => each.startsWith(name))
  return Number(line?.slice(name.length) ?? 0)
}

/** Pulls until the upstream is not asked any more: it is kept. */
async function pullUntilHeld(digest: Digest): Promise<void> {
  await expect
    .poll(
      async () => {
        const before = upstream.requestsFor(digest).length
        await pull(digest)
        return upstream.requestsFor(digest).length - before
      },
      { timeout: 10_000 },
    )
    .toBe(0)
}

function canMount(): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  try {
    execFileSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

// Skipped where the user may not mount: the failing disks of cache/passing.test.ts stand for them.
describe.skipIf(!canMount())('on a small file system', () => {
  let cache: string

  const remount = (options: string) => execFileSync('mount', ['-o', `remount,${options}`, cache])

  beforeEach(async () => {
    cache = directory.join('cache')
    await mkdir(cache)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=5m', 'tmpfs', cache])
    await start()
  })

  afterEach(async () => {
    try {
      await chandlery.stop()
    } finally {
      execFileSync('umount', ['-l', cache])
    }
  })

  test('a blob larger than what is free passes through and leaves the space alone', async () => {
    const large = upstream.addSyntheticBlob(12 * MIB, 'large')
    expect(digestOf(await pull(large.digest))).toBe(large.digest)
    expect(await storeErrors('fit')).toBe(1)
    const ready = await fetch(`${chandlery.adminUrl}/readyz?verbose`)
    expect(ready.status).toBe(200)
    expect(await ready.text()).toMatch(
      /blobs that do not fit are not being kept: the file system is full, .*12582912/,
    )
    const small = upstream.addSyntheticBlob(2 * MIB, 'small')
    await pullUntilHeld(small.digest)
    expect(await admin('/readyz?verbose')).not.toContain('blobs are not being kept')
  })

  test('twenty clients get a blob while the disk fills up under it, and it is kept when there is room', async () => {
    // What fills it comes after the download was found to fit.
    const { digest } = upstream.addSyntheticBlob(3 * MIB, 'squeezed')
    const fault = upstream.fault({ match: { digest }, stall: { afterBytes: MIB }, times: 1 })
    const pulls = Array.from({ length: 20 }, () => pull(digest))
    await expect.poll(() => fault.hits).toBe(1)
    const filler = directory.join('cache', 'filler')
    await writeFile(filler, Buffer.alloc(6 * MIB)).catch(() => {})
    fault.release()
    for (const bytes of await Promise.all(pulls)) expect(digestOf(bytes)).toBe(digest)
    expect(await storeErrors('write')).toBe(1)
    await rm(filler)
    await pullUntilHeld(digest)
  })

  test('on one that became read-only everything can be pulled, and is kept when it is writable again', async () => {
    const held = upstream.addSyntheticBlob(MIB, 'held')
    await pullUntilHeld(held.digest)
    remount('ro')
    const blob = upstream.addSyntheticBlob(2 * MIB, 'unwritable')
    expect(digestOf(await pull(blob.digest))).toBe(blob.digest)
    const part = await pull(blob.digest, { range: 'bytes=1000000-1000099' })
    expect(part.length).toBe(100)
    expect(digestOf(await pull(held.digest))).toBe(held.digest)
    expect(await admin('/readyz?verbose')).toContain('the cache directory cannot be written')
    remount('rw,size=5m')
    await pullUntilHeld(blob.digest)
    expect(await admin('/readyz?verbose')).not.toContain('blobs are not being kept')
  })

  test('manifests that cannot be written are answered', async () => {
    const image = upstream.addImage('team/app', 'v1')
    remount('ro')
    const url = `${chandlery.url}/v2/team/app/manifests/v1?ns=${REGISTRY}`
    for (let each = 0; each < 2; each++) {
      const response = await fetch(url)
      expect(response.status).toBe(200)
      expect(response.headers.get('docker-content-digest')).toBe(image.digest)
    }
    await expect.poll(() => storeErrors('write manifest')).toBeGreaterThan(0)
    expect(await admin('/readyz?verbose')).toContain('manifests are not being kept')
  })
})

test.each([
  ['ENOSPC', 'in the middle of a blob', 'the file system is full'],
  ['EDQUOT', 'in the middle of a blob', 'the quota is used up'],
  ['EROFS', 'at once', 'the cache directory cannot be written'],
  ['EIO', 'in the middle of a blob', 'the disk reports errors'],
  ['EIO', 'when the blob is to be kept', 'the disk reports errors'],
])('%s %s costs no pull, and is told until blobs are kept again', async (code, when, meaning) => {
  await start()
  const { digest } = upstream.addSyntheticBlob(20 * MIB, code)
  const isLate = when === 'when the blob is to be kept'
  const after = when === 'in the middle of a blob' ? 3 : 0
  using disk = await failFiles(isLate ? 'sync' : 'writev', code, after)
  const part = pull(digest, { range: 'bytes=15000000-15999999' })
  const wholes = await Promise.all([pull(digest), pull(digest), pull(digest)])
  for (const bytes of wholes) expect(digestOf(bytes)).toBe(digest)
  expect(wholes[0]?.subarray(15_000_000, 16_000_000).equals(await part)).toBe(true)
  await expect.poll(() => storeErrors(isLate ? 'commit' : 'write')).toBeGreaterThan(0)
  const ready = await fetch(`${chandlery.adminUrl}/readyz?verbose`)
  expect([ready.status, await ready.text()]).toEqual([200, expect.stringContaining(meaning)])
  expect(disk.failures).toBeGreaterThan(0)
  disk[Symbol.dispose]()
  await pullUntilHeld(digest)
  // It is held a moment before its download is over.
  await expect.poll(() => admin('/readyz?verbose')).not.toContain('not being kept')
})

test('a cache that is emptied under a running server is filled again', async () => {
  await start()
  const held = upstream.addSyntheticBlob(MIB, 'emptied')
  const image = upstream.addImage('team/app', 'v1')
  await pullUntilHeld(held.digest)
  const running = upstream.addSyntheticBlob(4 * MIB, 'running')
  const match = { digest: running.digest }
  const fault = upstream.fault({ match, stall: { afterBytes: 2 * MIB }, times: 1 })
  const pulling = pull(running.digest)
  await expect.poll(() => fault.hits).toBe(1)
  const cache = directory.join('cache')
  for (const name of await readdir(cache)) await rm(`${cache}/${name}`, { recursive: true })
  fault.release()
  expect(digestOf(await pulling)).toBe(running.digest)
  await pullUntilHeld(held.digest)
  await pullUntilHeld(running.digest)
  const response = await fetch(`${chandlery.url}/v2/team/app/manifests/v1?ns=${REGISTRY}`)
  expect(response.headers.get('docker-content-digest')).toBe(image.digest)
  await expect.poll(() => readdir(`${cache}/manifests`).catch(() => [])).not.toEqual([])
}, 20_000)
