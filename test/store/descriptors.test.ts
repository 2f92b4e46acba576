// Checks that no descriptor of the store's files stays open, whatever fails: Node ends the process
// if it garbage-collects an open file handle. Runs only where the system lists open descriptors.

import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { FilesystemDriver } from '../../src/store/driver/filesystem.ts'
import { LocalIngest } from '../../src/store/ingest/ingest.ts'
import type { Ingest } from '../../src/store/ingest/ingest.ts'
import { blobKey } from '../../src/store/layout.ts'
import { openStore } from '../../src/store/store.ts'
import type { Store } from '../../src/store/store.ts'
import { openBelow } from '../support/cache-files.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import type { TemporaryDirectory } from '../support/temporary-directory.ts'

const content = randomBytes(2_000_000)
const digest = digestOf(content)

let directory: TemporaryDirectory
let store: Store

const descriptors = () => openBelow(directory.path)

const failureOf = (work: Promise<unknown>) =>
  work.then(
    () => expect.unreachable('it did not fail'),
    (error: unknown) => error,
  )
const theFile = async (ending: string) => {
  const names = await readdir(directory.join('ingest'))
  return directory.join(
    'ingest',
    names.find((name) => name.endsWith(ending))!,
  )
}
const begin = async (): Promise<Ingest> => {
  const ingest = await store.blobs.ingest(digest)
  await ingest.write(1_000_000, content.subarray(1_000_000, 1_500_000))
  await ingest.write(0, content.subarray(0, 1_000_000))
  return ingest
}
const blockWith = (path: string) => mkdir(path, { recursive: true })

describe.runIf(process.platform === 'linux')('no file descriptor stays open', () => {
  beforeEach(async () => {
    directory = await temporaryDirectory()
    store = await openStore({ directory: directory.path })
  })
  afterEach(async () => {
    await store.close()
    await directory.remove()
  })

  test('unnoticed: the count finds those of an open ingest', async () => {
    const ingest = await begin()
    expect(await descriptors()).toHaveLength(1)
    await ingest.abort()
    expect(await descriptors()).toHaveLength(1)
    await ingest.close()
    expect(await descriptors()).toEqual([])
  })

  const ways: readonly (readonly [string, (ingest: Ingest) => Promise<unknown>])[] = [
    ['is committed', async (ingest) => finish(ingest)],
    ['is suspended', (ingest) => ingest.suspend()],
    ['is closed while it is hashed behind', (ingest) => ingest.close()],
    ['is closed twice at once', (ingest) => Promise.all([ingest.close(), ingest.suspend()])],
    [
      'is closed while it is written, read, verified and checkpointed',
      async (ingest) => {
        const work = [
          ingest.write(1_500_000, content.subarray(1_500_000)),
          ingest.read(Buffer.alloc(1000), 10),
          ingest.checkpoint(),
          ingest.verify(),
        ]
        await Promise.all([Promise.allSettled(work), ingest.close()])
      },
    ],
    [
      'cannot note what it has',
      async (ingest) => {
        await blockWith(`${await theFile('.part')}.json.new`)
        await failureOf(ingest.suspend())
      },
    ],
    [
      'cannot remove its files',
      async (ingest) => {
        await ingest.checkpoint()
        const journal = await theFile('.json')
        await rm(journal)
        await blockWith(journal)
        await failureOf(ingest.close())
        await expect(readdir(directory.join('ingest'))).resolves.toHaveLength(1) // the obstacle
      },
    ],
    [
      'cannot be committed',
      async (ingest) => {
        await ingest.write(1_500_000, content.subarray(1_500_000))
        await ingest.verify()
        await blockWith(directory.join(blobKey(digest), 'in-the-way'))
        await failureOf(ingest.commit())
        await ingest.close()
      },
    ],
    [
      'lost its directory',
      async (ingest) => {
        await rm(directory.join('ingest'), { recursive: true })
        await failureOf(ingest.suspend())
      },
    ],
    [
      'is cut short on the disk',
      async (ingest) => {
        await ingest.write(1_500_000, content.subarray(1_500_000))
        await ingest.verify(content.length)
        await truncate(await theFile('.part'), 10)
        expect(await failureOf(ingest.commit())).toMatchObject({ reason: 'wrong-size' })
        await ingest.close()
      },
    ],
  ]
  test.each(ways)('when an ingest %s', async (_, end) => {
    await end(await begin())
    expect(await descriptors()).toEqual([])
  })

  test.each([
    ['is gone', '.part', (path: string) => rm(path)],
    ['is short', '.part', (path: string) => truncate(path, 7)],
    ['is a directory', '.part', (path: string) => rm(path).then(() => blockWith(path))],
    ['has a garbled journal', '.json', (path: string) => writeFile(path, 'x')],
    ['has an endless journal', '.json', (path: string) => truncate(path, 5_000_000)],
    [
      'has a directory as its journal',
      '.json',
      (path: string) => rm(path).then(() => blockWith(path)),
    ],
  ] as const)('when a partial file %s', async (_, ending, damage) => {
    await (await begin()).suspend()
    await damage(await theFile(ending))
    const ingest = await store.blobs.ingest(digest)
    expect(ingest.have().bytes).toBe(0)
    expect(await descriptors()).toHaveLength(1)
    await ingest.close()
    await (await openStore({ directory: directory.path })).close()
    expect(await descriptors()).toEqual([])
  })

  test('when an ingest cannot be made', async () => {
    await rm(directory.join('ingest'), { recursive: true })
    await writeFile(directory.join('ingest'), 'a file')
    await failureOf(store.blobs.ingest(digest))
    await failureOf(
      LocalIngest.create({ directory: directory.join('ingest'), digest, adopt: async () => {} }),
    )
    await rm(directory.join('ingest'))
    const ingest = await store.blobs.ingest(digest) // the digest can be opened again
    await ingest.checkpoint()
    await ingest.close()
    expect(await descriptors()).toEqual([])
  })

  test('when blobs are verified, damaged, removed or not files', async () => {
    const driver = new FilesystemDriver(directory.path)
    await driver.put(blobKey(digest), content)
    expect(await store.blobs.verify(digest)).toBe('good')
    await truncate(directory.join(blobKey(digest)), 1_500_000)
    expect(await store.blobs.verify(digest)).toBe('wrong')
    const stopping = AbortSignal.abort(new Error('stopping'))
    await failureOf(store.blobs.verify(digest, { signal: stopping }))
    await store.blobs.quarantine(digest)
    expect(await store.blobs.open(digest)).toBeUndefined()
    await blockWith(directory.join(blobKey(digest)))
    expect(await store.blobs.verify(digest)).toBe('absent')
    await failureOf(driver.put(blobKey(digest), content))
    await failureOf(driver.put('version/below-a-file', content))
    expect(await descriptors()).toEqual([])
  })
})

async function finish(ingest: Ingest): Promise<void> {
  await ingest.write(1_500_000, content.subarray(1_500_000))
  await ingest.verify(content.length)
  await ingest.commit()
  await ingest.close()
}
