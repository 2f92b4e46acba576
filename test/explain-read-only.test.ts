// `explain` reads the directory of a running server and leaves no trace in it.
import { execFile } from 'node:child_process'
import { readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { explain } from '../src/cli/explain.ts'
import { loadConfig } from '../src/config/load.ts'
import { explainDeps } from '../src/app/explain-deps.ts'
import { type Digest, digestOf } from '../src/oci/digest.ts'
import { linkKey, manifestKey, tagKey } from '../src/store/layout.ts'
import { type Ownership, takeOwnership } from '../src/store/owner/owner.ts'
import { openStore, type Store } from '../src/store/store.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'

const CHANDLERY = new URL('../bin/chandlery.js', import.meta.url).pathname
const repository = { registry: 'registry.test', name: 'team/app' }
const mediaType = 'application/vnd.oci.image.manifest.v1+json'
const imageConfig = Buffer.from('{}')

let directory: TemporaryDirectory
let ownership: Ownership
let store: Store

beforeEach(async () => {
  directory = await temporaryDirectory()
  const cache = directory.join('cache')
  // No heartbeat: the claim's own time must not change while the test looks.
  ownership = await takeOwnership(cache, { listen: 'test' }, { heartbeatMs: 3_600_000 })
  store = await openStore({ directory: cache })
  const written = { storage: { directory: cache }, mirrors: { 'registry.test': {} } }
  await writeFile(directory.join('chandlery.yaml'), JSON.stringify(written))
})

afterEach(async () => {
  await store.close()
  await ownership.release()
  await directory.remove()
})

/** An image with one blob, as a pull leaves it. */
async function keep(tag: string): Promise<{ manifest: Digest; blob: Digest }> {
  const blob = Buffer.from(`layer of ${tag}`)
  const descriptor = (bytes: Buffer) => ({ mediaType, digest: digestOf(bytes), size: bytes.length })
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType,
      config: descriptor(imageConfig),
      layers: [descriptor(blob)],
    }),
  )
  const manifest = digestOf(bytes)
  const ingest = await store.blobs.ingest(digestOf(blob))
  await ingest.write(0, blob)
  await ingest.verify(blob.length)
  await ingest.commit()
  await ingest.close()
  await store.manifests.put(manifest, bytes)
  const grant = { grantedBy: 'anonymous', at: 1 } as const
  const size = bytes.length
  await store.links.put(repository, manifest, { kind: 'manifest', mediaType, size, ...grant })
  await store.links.put(repository, digestOf(blob), { kind: 'blob', size: blob.length, ...grant })
  const entry = { digest: manifest, mediaType, size, checkedAt: 1, grantedBy: grant.grantedBy }
  await store.tags.put(repository, tag, entry)
  return { manifest, blob: digestOf(blob) }
}

interface Seen {
  readonly path: string
  readonly modifiedMs: number
  readonly changedMs: number
  readonly content: string
}

/** Every path below the cache: its times, and what is in it. */
async function look(): Promise<Seen[]> {
  const cache = directory.join('cache')
  const names = ['.', ...(await readdir(cache, { recursive: true }))]
  const seen = names.toSorted().map(async (path): Promise<Seen> => {
    const found = await stat(`${cache}/${path}`)
    const content = found.isFile() ? await readFile(`${cache}/${path}`, 'base64') : ''
    return { path, modifiedMs: found.mtimeMs, changedMs: found.ctimeMs, content }
  })
  return await Promise.all(seen)
}

function runExplain(...args: string[]): Promise<string> {
  const options = { cwd: directory.path }
  return new Promise((resolve, reject) => {
    const done = (error: Error | null, stdout: string) => (error ? reject(error) : resolve(stdout))
    execFile(process.execPath, [CHANDLERY, 'explain', ...args], options, done)
  })
}

test('explain changes nothing in a directory that a server owns, damaged records and manifests included', async () => {
  const good = await keep('good')
  const cut = await keep('cut')
  const unlinked = await keep('unlinked')
  await keep('garbled')
  const cache = (key: string) => directory.join('cache', key)
  await writeFile(cache(manifestKey(cut.manifest)), '{"schemaVersion":2,"mediaT')
  await writeFile(cache(linkKey(repository, 'manifest', unlinked.manifest)), '{"kind":')
  await writeFile(cache(linkKey(repository, 'blob', good.blob)), 'no JSON')
  await writeFile(cache(tagKey(repository, 'garbled')), '{"digest":5}')
  // Last used long ago: a use would show.
  await utimes(cache(manifestKey(good.manifest)), 1, 1)
  const before = await look()
  expect(before.length).toBeGreaterThan(15)
  const file = directory.join('chandlery.yaml')
  const { config } = await loadConfig({ config: file }, {})
  const held = async (tag: string) => {
    return (await explain(`registry.test/team/app:${tag}`, explainDeps(config, 0))).held
  }
  expect(await held('good')).toMatchObject({ manifest: {}, parts: { held: 0, named: 2 } })
  expect(Object.keys((await held('cut')) ?? {})).toEqual(['tag'])
  expect(Object.keys((await held('unlinked')) ?? {})).toEqual(['tag'])
  expect(await held('garbled')).toEqual({})
  expect(await held('none')).toEqual({})
  expect(await runExplain('--config', file, 'registry.test/team/app:good')).toContain('team/app')
  expect(await look()).toEqual(before)
})

test('explain makes no directory where there is none', async () => {
  await runExplain('--directory', directory.join('none'), 'alpine')
  expect((await readdir(directory.path)).toSorted()).toEqual(['cache', 'chandlery.yaml'])
})
