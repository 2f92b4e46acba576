// The whole server on a disk that fails: full, read-only, emptied by hand. Every pull works all the
// same, and content is kept again once it can be.
import { execFileSync } from 'node:child_process'
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { describe, expect, test, vi } from 'vitest'
import { type Digest, digestOf } from '../src/oci/digest.ts'
import type { TestClient } from './support/client.ts'
import { failFiles } from './support/failing-files.ts'
import { createWorld, type World } from './support/world.ts'

const MIB = 1024 * 1024

/** A whole blob, or a part of one, verified by who calls it. */
async function pull(client: TestClient, digest: Digest, headers = {}): Promise<Buffer> {
  const { status, bytes } = await client.blob(digest, { headers })
  expect(status).toBeLessThan(300)
  return bytes
}

async function readiness({ client }: World): Promise<string> {
  return (await client.admin('/readyz?verbose')).text
}

function storeErrors({ client }: World, operation: string): Promise<number> {
  return client.metric(`chandlery_store_errors_total{operation="${operation}"}`)
}

/** Pulls until the upstream is not asked any more: it is kept. */
async function pullUntilHeld({ client, upstream }: World, digest: Digest): Promise<void> {
  await expect
    .poll(async () => {
      const before = upstream.requestsFor(digest).length
      await pull(client, digest)
      return upstream.requestsFor(digest).length - before
    })
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

interface SmallDisk extends AsyncDisposable {
  remount(options: string): void
}

/** Mounts 5 MiB as the cache of a server, and starts that. */
async function startOnSmallDisk(world: World): Promise<SmallDisk> {
  const cache = world.cache()
  await mkdir(cache)
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=5m', 'tmpfs', cache])
  const unmount = () => execFileSync('umount', ['-l', cache])
  await world.start().catch((error: unknown) => {
    unmount()
    throw error
  })
  return {
    remount: (options) => void execFileSync('mount', ['-o', `remount,${options}`, cache]),
    async [Symbol.asyncDispose]() {
      await world.server.stop().finally(unmount)
    },
  }
}

// Skipped where the user may not mount: the failing disks of cache/passing.test.ts stand for them.
describe.skipIf(!canMount())('on a small file system', () => {
  test('a blob larger than what is free passes through and leaves the space alone', async () => {
    await using world = await createWorld({ started: false })
    await using _disk = await startOnSmallDisk(world)
    const { upstream, client } = world
    const large = upstream.addSyntheticBlob(12 * MIB, 'large')
    expect(digestOf(await pull(client, large.digest))).toBe(large.digest)
    expect(await storeErrors(world, 'fit')).toBe(1)
    const ready = await client.admin('/readyz?verbose')
    expect(ready.status).toBe(200)
    expect(ready.text).toMatch(
      /blobs that do not fit are not being kept: the file system is full, .*12582912/,
    )
    const small = upstream.addSyntheticBlob(2 * MIB, 'small')
    await pullUntilHeld(world, small.digest)
    expect(await readiness(world)).not.toContain('blobs are not being kept')
  })

  test('twenty clients get a blob while the disk fills up under it, and it is kept when there is room', async () => {
    await using world = await createWorld({ started: false })
    await using _disk = await startOnSmallDisk(world)
    const { upstream, client } = world
    // What fills it comes after the download was found to fit.
    const { digest } = upstream.addSyntheticBlob(3 * MIB, 'squeezed')
    const fault = upstream.fault({ match: { digest }, stall: { afterBytes: MIB }, times: 1 })
    const pulls = Array.from({ length: 20 }, () => pull(client, digest))
    await expect.poll(() => fault.hits).toBe(1)
    const filler = world.cache('filler')
    await writeFile(filler, Buffer.alloc(6 * MIB)).catch(() => {})
    fault.release()
    for (const bytes of await Promise.all(pulls)) expect(digestOf(bytes)).toBe(digest)
    expect(await storeErrors(world, 'write')).toBe(1)
    await rm(filler)
    await pullUntilHeld(world, digest)
  })

  test('on one that became read-only everything can be pulled, and is kept when it is writable again', async () => {
    await using world = await createWorld({ started: false })
    await using disk = await startOnSmallDisk(world)
    const { upstream, client } = world
    const held = upstream.addSyntheticBlob(MIB, 'held')
    await pullUntilHeld(world, held.digest)
    // Refused while a download still closes its file.
    await vi.waitFor(() => disk.remount('ro'))
    const blob = upstream.addSyntheticBlob(2 * MIB, 'unwritable')
    expect(digestOf(await pull(client, blob.digest))).toBe(blob.digest)
    const part = await pull(client, blob.digest, { range: 'bytes=1000000-1000099' })
    expect(part.length).toBe(100)
    expect(digestOf(await pull(client, held.digest))).toBe(held.digest)
    expect(await readiness(world)).toContain('the cache directory is not writable')
    disk.remount('rw,size=5m')
    await pullUntilHeld(world, blob.digest)
    expect(await readiness(world)).not.toContain('blobs are not being kept')
  })

  test('manifests that cannot be written are answered', async () => {
    await using world = await createWorld({ started: false })
    await using disk = await startOnSmallDisk(world)
    const { upstream, client } = world
    const image = upstream.addImage('team/app', 'v1')
    // Refused while a download still closes its file.
    await vi.waitFor(() => disk.remount('ro'))
    for (let each = 0; each < 2; each++) {
      const response = await client.manifest('v1')
      expect(response.status).toBe(200)
      expect(response.headers.get('docker-content-digest')).toBe(image.digest)
    }
    await expect.poll(() => storeErrors(world, 'write manifest')).toBeGreaterThan(0)
    expect(await readiness(world)).toContain('manifests are not being kept')
  })
})

test.each([
  ['ENOSPC', 'in the middle of a blob', 'the file system is full'],
  ['EDQUOT', 'in the middle of a blob', 'the quota is used up'],
  ['EROFS', 'at once', 'the cache directory is not writable'],
  ['EIO', 'in the middle of a blob', 'the disk reports errors'],
  ['EIO', 'when the blob is to be kept', 'the disk reports errors'],
])(
  '%s %s costs no pull and is reported until blobs are kept again',
  async (code, when, meaning) => {
    await using world = await createWorld()
    const { upstream, client } = world
    const { digest } = upstream.addSyntheticBlob(20 * MIB, code)
    const isLate = when === 'when the blob is to be kept'
    const after = when === 'in the middle of a blob' ? 3 : 0
    using disk = await failFiles(isLate ? 'sync' : 'writev', code, after)
    const part = pull(client, digest, { range: 'bytes=15000000-15999999' })
    const wholes = await Promise.all([
      pull(client, digest),
      pull(client, digest),
      pull(client, digest),
    ])
    for (const bytes of wholes) expect(digestOf(bytes)).toBe(digest)
    expect(wholes[0]?.subarray(15_000_000, 16_000_000).equals(await part)).toBe(true)
    await expect.poll(() => storeErrors(world, isLate ? 'commit' : 'write')).toBeGreaterThan(0)
    const ready = await client.admin('/readyz?verbose')
    expect([ready.status, ready.text]).toEqual([200, expect.stringContaining(meaning)])
    expect(disk.failures).toBeGreaterThan(0)
    disk[Symbol.dispose]()
    await pullUntilHeld(world, digest)
    // It is held a moment before its download is over.
    await expect.poll(() => readiness(world)).not.toContain('not being kept')
  },
)

test('a cache that is emptied under a running server is filled again', async () => {
  await using world = await createWorld()
  const { upstream, client } = world
  const held = upstream.addSyntheticBlob(MIB, 'emptied')
  const image = upstream.addImage('team/app', 'v1')
  await pullUntilHeld(world, held.digest)
  const running = upstream.addSyntheticBlob(4 * MIB, 'running')
  const match = { digest: running.digest }
  const fault = upstream.fault({ match, stall: { afterBytes: 2 * MIB }, times: 1 })
  const pulling = pull(client, running.digest)
  await expect.poll(() => fault.hits).toBe(1)
  const cache = world.cache()
  for (const name of await readdir(cache)) await rm(`${cache}/${name}`, { recursive: true })
  fault.release()
  expect(digestOf(await pulling)).toBe(running.digest)
  await pullUntilHeld(world, held.digest)
  await pullUntilHeld(world, running.digest)
  const response = await client.manifest('v1')
  expect(response.headers.get('docker-content-digest')).toBe(image.digest)
  await expect.poll(() => readdir(`${cache}/manifests`).catch(() => [])).not.toEqual([])
})
