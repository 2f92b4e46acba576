// Starting and stopping the whole server, also at once and in the wrong moment.
import { readdir, utimes, writeFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Chandlery } from '../src/app/chandlery.ts'
import { digestOf } from '../src/oci/digest.ts'
import { openStore } from '../src/store/store.ts'
import { createChandlery } from './support/chandlery.ts'
import { hangFilesBelow } from './support/failing-files.ts'
import { type TemporaryDirectory, temporaryDirectory } from './support/temporary-directory.ts'
import { until } from './support/until.ts'

let directory: TemporaryDirectory

beforeEach(async () => {
  directory = await temporaryDirectory()
})

afterEach(async () => {
  await directory.remove()
})

async function create(): Promise<Chandlery> {
  return (await createChandlery(directory.path, {})).server
}

function claims(): Promise<string[]> {
  return readdir(directory.join('cache', 'owner')).catch(() => [])
}

describe('a server that is stopped while it starts', () => {
  test.each([0, 1, 2, 5, 10, 20, 40])(
    'after %i ms gives back what it took and no longer listens',
    async (afterMs) => {
      const server = await create()
      const started = server.start().catch(() => undefined)
      if (afterMs > 0) await sleep(afterMs)
      await server.stop()
      expect(server.ports).toEqual({ api: 0, admin: 0 })
      expect(await claims()).toEqual([])
      await started
      expect(server.ports).toEqual({ api: 0, admin: 0 })
      expect(await claims()).toEqual([])
    },
  )

  test('while it waits for another to end leaves the other alone', async () => {
    const first = await create()
    await first.start()
    const second = await create()
    const started = second.start().catch((error: unknown) => error)
    await until(async () => (await claims()).some((name) => name.endsWith('.waiting')))
    await second.stop()
    expect(await started).toBeInstanceOf(Error)
    expect(await claims()).toHaveLength(1)
    await first.stop()
    expect(await claims()).toEqual([])
  })
})

/** A name that an unfinished write has: the next start removes such a file. */
const leftover = (number: number) => `00000000-0000-0000-0000-00000000000${number}`

describe('a server whose disk hangs while it clears its directory', () => {
  let ingest: string

  beforeEach(async () => {
    ingest = directory.join('cache', 'ingest')
    await (await openStore({ directory: directory.join('cache') })).close()
  })

  test('at the start stops in time, keeps the directory until that has ended, and clears nothing more', async () => {
    for (let each = 0; each < 5; each++) await writeFile(`${ingest}/${leftover(each)}`, '')
    const server = await create()
    using disk = await hangFilesBelow(ingest, 'rm')
    const started = server.start().catch((error: unknown) => error)
    await expect.poll(() => disk.count).toBe(1)
    const startedAt = performance.now()
    await server.stop()
    expect(performance.now() - startedAt).toBeLessThan(8000)
    expect(await claims()).toHaveLength(1)
    disk[Symbol.dispose]()
    expect(await started).toBeInstanceOf(Error)
    // What was held up is the removal of the first one's journal, which it does not have.
    expect(await readdir(ingest)).toHaveLength(5)
    expect(await claims()).toEqual([])
  })

  test('of abandoned downloads keeps the directory until that has ended, and clears nothing more', async () => {
    const store = await openStore({ directory: directory.join('cache') })
    for (const text of ['one', 'two', 'three']) {
      const partial = await store.blobs.ingest(digestOf(Buffer.from(text)))
      await partial.write(0, Buffer.from('on'))
      await partial.suspend()
    }
    await store.close()
    for (const name of await readdir(ingest)) await utimes(`${ingest}/${name}`, 1, 1)
    const server = await create()
    using disk = await hangFilesBelow(ingest, 'rm')
    await server.start()
    await expect.poll(() => disk.count).toBe(1)
    await server.stop()
    expect(await claims()).toHaveLength(1)
    disk[Symbol.dispose]()
    await expect.poll(claims).toEqual([])
    // What was held up is the removal of the first one's journal.
    expect(await readdir(ingest)).toHaveLength(5)
  })
})
