// Tests links, tags, referrers and manifests in a real directory.

import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../../src/oci/digest.ts'
import { FilesystemDriver } from '../../../src/store/driver/filesystem.ts'
import { linkKey, manifestKey, referrersKey, tagKey } from '../../../src/store/layout.ts'
import { Links } from '../../../src/store/records/links.ts'
import type { Link } from '../../../src/store/records/links.ts'
import { Manifests } from '../../../src/store/records/manifests.ts'
import { Referrers } from '../../../src/store/records/referrers.ts'
import { Tags } from '../../../src/store/records/tags.ts'
import type { TagEntry } from '../../../src/store/records/tags.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import type { TemporaryDirectory } from '../../support/temporary-directory.ts'

const repository = { registry: 'docker.io', name: 'library/alpine' }
const other = { registry: 'localhost:5000', name: 'library' }
const digest = digestOf(Buffer.from('one'))
const second = digestOf(Buffer.from('two'))
const mediaType = 'application/vnd.oci.image.manifest.v1+json'

let directory: TemporaryDirectory
let driver: FilesystemDriver
let errors: string[]

beforeEach(async () => {
  directory = await temporaryDirectory()
  await mkdir(directory.join('ingest'))
  driver = new FilesystemDriver(directory.path)
  errors = []
})
afterEach(() => directory.remove())

const options = () => ({
  driver,
  observer: {
    storeError: (operation: string, error: Error) => errors.push(`${operation}: ${error.message}`),
  },
})
const exists = (key: string) =>
  stat(directory.join(key)).then(
    () => true,
    () => false,
  )

async function written(tag: string): Promise<TagEntry> {
  return JSON.parse(await readFile(directory.join(tagKey(repository, tag)), 'utf8')) as TagEntry
}

describe('Links', () => {
  const link: Link = { kind: 'blob', size: 5, grantedBy: 'anonymous', at: 1000 }

  test('are found again, by this and by the next server', async () => {
    const links = new Links(options())
    await links.put(repository, digest, link)
    await links.put(repository, digest, { ...link, kind: 'manifest', mediaType })
    for (const reader of [links, new Links(options())]) {
      expect(await reader.get(repository, 'blob', digest)).toEqual(link)
      expect(await reader.get(repository, 'manifest', digest)).toEqual({
        ...link,
        kind: 'manifest',
        mediaType,
      })
      expect(await reader.get(repository, 'blob', second)).toBeUndefined()
      expect(await reader.get(other, 'blob', digest)).toBeUndefined()
    }
  })

  test('are seen as soon as they are put', async () => {
    const links = new Links(options())
    expect(await links.get(repository, 'blob', digest)).toBeUndefined()
    await links.put(repository, digest, link)
    expect(await links.get(repository, 'blob', digest)).toEqual(link)
    await links.remove(repository, 'blob', digest)
    expect(await links.get(repository, 'blob', digest)).toBeUndefined()
    expect(await new Links(options()).get(repository, 'blob', digest)).toBeUndefined()
  })

  test('get a better grant at once', async () => {
    const links = new Links(options())
    await links.put(repository, digest, { ...link, grantedBy: 'credential' })
    await links.put(repository, digest, { ...link, at: 1001 })
    expect((await new Links(options()).get(repository, 'blob', digest))?.grantedBy).toBe(
      'anonymous',
    )
  })

  test.each([
    ['cut short', '{"kind":"blob","grantedBy"'],
    ['empty', ''],
    ['no object', '[]'],
    ['of no kind', '{"kind":"thing","grantedBy":"anonymous","at":1}'],
    ['granted by nobody', '{"kind":"blob","at":1}'],
    ['granted at no time', '{"kind":"blob","grantedBy":"anonymous","at":-1}'],
    ['of half a byte', '{"kind":"blob","grantedBy":"anonymous","at":1,"size":0.5}'],
    ['of a type that is none', '{"kind":"blob","grantedBy":"anonymous","at":1,"mediaType":7}'],
    ['not UTF-8', Buffer.from([0xff, 0xfe, 0])],
  ])(
    'in a file that is %s count as absent, and the file is reported and removed',
    async (_, text) => {
      const key = linkKey(repository, 'blob', digest)
      await driver.put(key, Buffer.from(text))
      const links = new Links(options())
      expect(await links.get(repository, 'blob', digest)).toBeUndefined()
      expect(await exists(key)).toBe(false)
      expect(errors).toEqual([`read record: ${key} was damaged and has been removed`])
      await links.put(repository, digest, link)
      expect(await links.get(repository, 'blob', digest)).toEqual(link)
    },
  )

  test('are read as a whole link or nothing, whatever lies in their file', async () => {
    const key = linkKey(repository, 'blob', digest)
    const value = fc.oneof(
      fc.json(),
      fc
        .record(
          {
            kind: fc.constantFrom('blob', 'manifest', 'x'),
            grantedBy: fc.constantFrom('anonymous', 'imported', 1),
            at: fc.oneof(fc.nat(), fc.double()),
            size: fc.oneof(fc.nat(), fc.string()),
          },
          { requiredKeys: [] },
        )
        .map((record) => JSON.stringify(record)),
    )
    await fc.assert(
      fc.asyncProperty(value, async (text) => {
        await driver.put(key, Buffer.from(text), { durability: 'none' })
        const found = await new Links(options()).get(repository, 'blob', digest)
        expect(await exists(key)).toBe(found !== undefined)
        if (found !== undefined) expect(Number.isSafeInteger(found.at)).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  test('list every repository that holds a manifest or a tag, once', async () => {
    const links = new Links(options())
    const tags = new Tags(options())
    const blobsOnly = { registry: 'ghcr.io', name: 'a/b' }
    const below = { registry: 'docker.io', name: 'library/alpine/sub' }
    await links.put(blobsOnly, digest, link)
    await links.put(repository, digest, link)
    await links.put(repository, digest, { ...link, kind: 'manifest' })
    await links.put(repository, second, { ...link, kind: 'manifest' })
    await tags.put(repository, 'latest', {
      digest,
      mediaType,
      size: 3,
      checkedAt: 1,
      grantedBy: 'anonymous',
    })
    await links.put(below, second, { ...link, kind: 'manifest' })
    await tags.put(other, 'latest', {
      digest,
      mediaType,
      size: 3,
      checkedAt: 1,
      grantedBy: 'anonymous',
    })
    await driver.put('repositories/stray', Buffer.from('not ours'))
    const found: string[] = []
    for await (const { registry, name } of links.repositories()) found.push(`${registry}/${name}`)
    expect(found.toSorted()).toEqual([
      'docker.io/library/alpine',
      'docker.io/library/alpine/sub',
      'localhost:5000/library',
    ])
  })
})

describe('Tags', () => {
  const entry: TagEntry = {
    digest,
    mediaType,
    size: 3,
    checkedAt: 1_000_000,
    grantedBy: 'anonymous',
  }

  test('are found again, by this and by the next server, and told apart by case', async () => {
    const tags = new Tags(options())
    await tags.put(repository, 'v1', entry)
    await tags.put(repository, 'V1', { ...entry, digest: second })
    for (const reader of [tags, new Tags(options())]) {
      expect(await reader.get(repository, 'v1')).toEqual(entry)
      expect((await reader.get(repository, 'V1'))?.digest).toBe(second)
      expect(await reader.get(other, 'v1')).toBeUndefined()
    }
  })

  test('have a new digest on the disk at once', async () => {
    const tags = new Tags(options())
    await tags.put(repository, 'v1', entry)
    await tags.put(repository, 'v1', { ...entry, digest: second, checkedAt: entry.checkedAt + 1 })
    expect((await written('v1')).digest).toBe(second)
  })

  test('a mere check is written once a minute', async () => {
    const tags = new Tags(options())
    await tags.put(repository, 'v1', entry)
    await tags.put(repository, 'v1', { ...entry, checkedAt: entry.checkedAt + 59_000 })
    expect((await written('v1')).checkedAt).toBe(entry.checkedAt)
    await tags.put(repository, 'v1', { ...entry, checkedAt: entry.checkedAt + 60_000 })
    expect((await written('v1')).checkedAt).toBe(entry.checkedAt + 60_000)
  })

  test('do not show a check as newer than it is when the clock went back', async () => {
    const tags = new Tags(options())
    await tags.put(repository, 'v1', entry)
    await tags.put(repository, 'v1', { ...entry, checkedAt: 5 })
    expect((await tags.get(repository, 'v1'))?.checkedAt).toBe(5)
    expect((await new Tags(options()).get(repository, 'v1'))?.checkedAt).toBe(5)
  })

  test('have the last of many puts at once in memory and on disk', async () => {
    const tags = new Tags(options())
    await Promise.all(
      Array.from({ length: 10 }, (_, n) =>
        tags.put(repository, 'v1', { ...entry, size: n, checkedAt: entry.checkedAt + n }),
      ),
    )
    expect((await tags.get(repository, 'v1'))?.size).toBe(9)
    expect((await written('v1')).size).toBe(9)
  })

  test('are listed in ASCII order, without what is not a tag', async () => {
    const tags = new Tags(options())
    expect(await tags.list(repository)).toEqual([])
    for (const tag of ['b', 'a', 'B', '_x', '1.10', '1.9']) await tags.put(repository, tag, entry)
    await writeFile(directory.join(tagKey(repository, 'a'), '..', '.swp'), 'stray')
    expect(await tags.list(repository)).toEqual(['1.10', '1.9', 'B', '_x', 'a', 'b'])
    expect(await tags.list(other)).toEqual([])
    await tags.remove(repository, 'a')
    expect(await tags.list(repository)).not.toContain('a')
  })

  test('leave a damaged entry out of the list and count it as absent', async () => {
    await driver.put(tagKey(repository, 'v1'), Buffer.from('{"digest":"sha256:xyz"}'))
    const tags = new Tags(options())
    expect(await tags.get(repository, 'v1')).toBeUndefined()
    expect(await tags.list(repository)).toEqual([])
  })

  test('do not lose a put that meets the removal of a damaged entry', async () => {
    await driver.put(tagKey(repository, 'v1'), Buffer.from('damaged'))
    const tags = new Tags(options())
    await Promise.all([
      tags.get(repository, 'v1'),
      tags.put(repository, 'v1', entry),
      tags.get(repository, 'v1'),
    ])
    expect(await new Tags(options()).get(repository, 'v1')).toEqual(entry)
  })
})

describe('Referrers', () => {
  const manifests = [
    { mediaType, digest: second, size: 7, artifactType: 'application/x', annotations: { a: 'b' } },
  ]

  test('are found again, an empty list included', async () => {
    const referrers = new Referrers(options())
    await referrers.put(repository, digest, { manifests, checkedAt: 5 })
    await referrers.put(repository, second, { manifests: [], checkedAt: 6 })
    for (const reader of [referrers, new Referrers(options())]) {
      expect(await reader.get(repository, digest)).toEqual({ manifests, checkedAt: 5 })
      expect(await reader.get(repository, second)).toEqual({ manifests: [], checkedAt: 6 })
      expect(await reader.get(other, digest)).toBeUndefined()
    }
  })

  test.each(['{"checkedAt":5}', '{"manifests":[{}],"checkedAt":5}', '{"manifests":[]}', 'null'])(
    'in a file that holds %s count as absent',
    async (text) => {
      const key = referrersKey(repository, digest)
      await driver.put(key, Buffer.from(text))
      expect(await new Referrers(options()).get(repository, digest)).toBeUndefined()
      expect(await exists(key)).toBe(false)
    },
  )
})

describe('Manifests', () => {
  const bytes = Buffer.from(`{"schemaVersion": 2,\n "mediaType":"${mediaType}","layers":[]}`)
  const wanted = digestOf(bytes)

  test.each(['sha256', 'sha512'] as const)(
    'come back byte for byte under a %s digest',
    async (algorithm) => {
      const manifests = new Manifests(options())
      const name = digestOf(bytes, algorithm)
      expect(await manifests.get(name)).toBeUndefined()
      await manifests.put(name, bytes)
      expect((await manifests.get(name))?.equals(bytes)).toBe(true)
      await manifests.remove(name)
      expect(await manifests.get(name)).toBeUndefined()
    },
  )

  test('that are damaged are reported and removed, and can be put again', async () => {
    const manifests = new Manifests(options())
    const key = manifestKey(wanted)
    await driver.put(key, bytes.subarray(0, 20))
    expect(await manifests.get(wanted)).toBeUndefined()
    expect(await exists(key)).toBe(false)
    expect(errors).toEqual([`read manifest: ${key} was damaged and has been removed`])
    await manifests.put(wanted, bytes)
    expect((await manifests.get(wanted))?.equals(bytes)).toBe(true)
  })

  test('that are damaged are repaired by a put, also while they are read', async () => {
    const manifests = new Manifests(options())
    await driver.put(manifestKey(wanted), Buffer.from('damaged'))
    await Promise.all([manifests.get(wanted), manifests.put(wanted, bytes), manifests.get(wanted)])
    expect((await manifests.get(wanted))?.equals(bytes)).toBe(true)
  })

  test('that were removed by hand are absent', async () => {
    const manifests = new Manifests(options())
    await manifests.put(wanted, bytes)
    await rm(directory.join(manifestKey(wanted)))
    expect(await manifests.get(wanted)).toBeUndefined()
    await manifests.put(wanted, bytes)
    expect((await manifests.get(wanted))?.equals(bytes)).toBe(true)
  })

  test('of schema 1 that are signed keep the digest that the upstream gave them', async () => {
    const schema1 = Buffer.from(
      JSON.stringify({
        schemaVersion: 1,
        name: 'a',
        tag: 'b',
        fsLayers: [],
        history: [],
        signatures: [],
      }),
    )
    const manifests = new Manifests(options())
    await manifests.put(second, schema1)
    expect((await manifests.get(second))?.equals(schema1)).toBe(true)
    expect(errors).toEqual([])
  })
})
