import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../../src/oci/digest.ts'
import type { Ingest } from '../../../src/store/ingest/ingest.ts'
import { openStore } from '../../../src/store/store.ts'
import type { Store } from '../../../src/store/store.ts'
import { recordFlushes } from '../../support/failing-files.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import type { TemporaryDirectory } from '../../support/temporary-directory.ts'
import { seededContent } from '../seeded-content.ts'

const content = randomBytes(300_000)
const digest = digestOf(content)
const half = [{ start: 0, end: 150_000 }]

let directory: TemporaryDirectory
let store: Store
let errors: string[]

const reopen = async (): Promise<Store> => {
  await store?.close()
  const observer = { storeError: (operation: string) => void errors.push(operation) }
  store = await openStore({ directory: directory.path, observer })
  return store
}
const files = () => readdir(directory.join('ingest'))
const theFile = async (ending: string) =>
  directory.join(
    'ingest',
    (await files()).find((name) => name.endsWith(ending))!,
  )
const have = (ingest: Ingest) => [...ingest.have()]

/** Returns an open ingest that has the first half of the content. */
const begin = async (): Promise<Ingest> => {
  const ingest = await store.blobs.ingest(digest)
  await ingest.write(0, content.subarray(0, 150_000))
  return ingest
}
const finish = async (ingest: Ingest): Promise<void> => {
  for (const { start, end } of ingest.have().missing(0, content.length)) {
    await ingest.write(start, content.subarray(start, end))
  }
  await ingest.verify(content.length)
  await ingest.commit()
  await ingest.close()
}
/** Reports whether a new ingest starts empty. Removes its file. */
const isFresh = async (): Promise<boolean> => {
  const ingest = await store.blobs.ingest(digest)
  const bytes = ingest.have().bytes
  await finish(ingest)
  return bytes === 0
}

const garble = (what: string, change: (text: string) => string | Buffer) =>
  [
    what,
    async () => {
      const journal = await theFile('.json')
      await writeFile(journal, change(await readFile(journal, 'utf8')))
    },
  ] as const

const age = async (seconds: number) => {
  const at = Date.now() / 1000 - seconds
  await utimes(await theFile('.part'), at, at)
}

beforeEach(async () => {
  errors = []
  directory = await temporaryDirectory()
  await reopen()
})
afterEach(async () => {
  await store.close()
  await directory.remove()
})

describe('a partial file', () => {
  test.each([
    ['in the same process', async () => {}],
    ['after a restart', async () => void (await reopen())],
  ])('that was suspended is continued %s', async (_, between) => {
    const ingest = await begin()
    await ingest.write(200_000, content.subarray(200_000, 210_000))
    await ingest.suspend()
    await between()
    const again = await store.blobs.ingest(digest)
    expect(have(again)).toEqual([...half, { start: 200_000, end: 210_000 }])
    const into = Buffer.alloc(100)
    await again.read(into, 200_000)
    expect(into.equals(content.subarray(200_000, 200_100))).toBe(true)
    await finish(again)
    expect(await store.blobs.stat(digest)).toEqual({ size: content.length })
    expect(await files()).toEqual([])
    expect(await isFresh()).toBe(true)
  })

  test('has after a crash what the last checkpoint noted, and no byte after it', async () => {
    const ingest = await begin()
    await ingest.checkpoint()
    await ingest.write(150_000, content.subarray(150_000))
    await reopen() // the first ingest is still open, as if its process had just been killed
    const again = await store.blobs.ingest(digest)
    expect(have(again)).toEqual(half)
    expect((await stat(await theFile('.part'))).size).toBe(150_000)
    await finish(again)
    await ingest.close()
  })

  test('is abandoned after a crash that came before any checkpoint', async () => {
    const ingest = await begin()
    await reopen()
    expect(await files()).toEqual([])
    await ingest.close()
  })

  test('may be suspended again and again', async () => {
    for (let at = 0; at < content.length; at += 100_000) {
      const ingest = await store.blobs.ingest(digest)
      expect(ingest.have().endFrom(0)).toBe(at)
      await ingest.write(at, content.subarray(at, at + 100_000))
      await ingest.suspend()
      await ingest.suspend()
      await ingest.close()
    }
    const complete = await store.blobs.ingest(digest)
    await complete.verify(content.length)
    await complete.commit()
    await complete.close()
    expect(await files()).toEqual([])
  })

  test.each([
    ['has nothing', async () => await store.blobs.ingest(digest)],
    [
      'was aborted',
      async () => {
        const ingest = await begin()
        await ingest.checkpoint()
        await ingest.abort()
        return ingest
      },
    ],
    [
      'was found wrong',
      async () => {
        const ingest = await begin()
        await ingest.write(150_000, randomBytes(150_000))
        await ingest.checkpoint()
        await expect(ingest.verify(content.length)).rejects.toThrow(/sha256/)
        return ingest
      },
    ],
    [
      'was committed',
      async () => {
        const ingest = await begin()
        await ingest.checkpoint()
        await ingest.write(150_000, content.subarray(150_000))
        await ingest.verify()
        await ingest.commit()
        return ingest
      },
    ],
  ])('that %s is not left for later', async (_, create) => {
    const ingest = await create()
    await ingest.suspend()
    expect(await files()).toEqual([])
    expect(await isFresh()).toBe(true)
  })

  test('that is simply closed is removed together with its journal', async () => {
    const ingest = await begin()
    await ingest.checkpoint()
    await ingest.close()
    expect(await files()).toEqual([])
  })

  test('is refused to the ingest that it was suspended from', async () => {
    const ingest = await begin()
    await ingest.suspend()
    await expect(ingest.write(150_000, content.subarray(150_000))).rejects.toThrow(/closed/)
    await expect(ingest.read(Buffer.alloc(1), 0)).rejects.toThrow(/closed/)
    await expect(ingest.commit()).rejects.toThrow(/suspended/)
    await ingest.abort()
    expect(await files()).toHaveLength(2)
  })

  test('is the only one of its digest: another ingest has a file that is not left', async () => {
    const first = await begin()
    const second = await begin()
    await second.checkpoint()
    await second.suspend()
    await first.suspend()
    expect(await files()).toHaveLength(2)
    const again = await store.blobs.ingest(digest)
    expect(have(again)).toEqual(half)
    const other = await store.blobs.ingest(digest)
    expect(other.have().bytes).toBe(0)
    await finish(other)
    await again.suspend()
    await finish(await store.blobs.ingest(digest))
    expect(await files()).toEqual([])
  })

  test('that was found wrong makes way for one that can be left, while it is still being read', async () => {
    const wrong = await store.blobs.ingest(digest)
    await wrong.write(0, Buffer.alloc(content.length))
    await wrong.verify(content.length).catch(() => {})
    await wrong.abort()
    const next = await begin()
    await next.suspend()
    const into = Buffer.alloc(10, 1)
    expect(await wrong.read(into, 0)).toBe(10)
    expect(into.equals(Buffer.alloc(10))).toBe(true)
    await wrong.close()
    expect(await isFresh()).toBe(false)
  })

  test('is removed when another download has brought the blob', async () => {
    const first = await begin()
    const second = await store.blobs.ingest(digest)
    await first.suspend()
    await finish(second)
    expect(await files()).toEqual([])
  })
})

describe('a checkpoint', () => {
  test('records what is written, and flushes nothing twice', async () => {
    const ingest = await begin()
    await ingest.write(200_000, content.subarray(200_000, 200_100))
    await Promise.all([ingest.checkpoint(), ingest.checkpoint()])
    const journal = await theFile('.json')
    const noted: unknown = JSON.parse(await readFile(journal, 'utf8'))
    expect(noted).toMatchObject({
      digest,
      have: [
        [0, 150_000],
        [200_000, 200_100],
      ],
    })
    const { ino } = await stat(journal)
    await ingest.checkpoint()
    expect((await stat(journal)).ino).toBe(ino)
    await ingest.close()
  })

  test.runIf(process.platform === 'linux')(
    'has flushed the file, its record, and the directory that names both',
    async () => {
      const ingest = await begin()
      using disk = await recordFlushes()
      await ingest.checkpoint()
      const [part, note] = [await theFile('.part'), await theFile('.json')]
      const [first, second, last, ...more] = disk.flushes
      expect([first?.path, second?.path]).toEqual([part, `${note}.new`])
      expect(last?.path).toBe(directory.join('ingest'))
      expect(last?.names?.toSorted()).toEqual([basename(part), basename(note)])
      expect(more).toEqual([])
      await ingest.close()
    },
  )

  test('that fails leaves what an earlier one recorded, and says why', async () => {
    const ingest = await begin()
    await ingest.checkpoint()
    await ingest.write(150_000, content.subarray(150_000, 160_000))
    const obstacle = `${await theFile('.part')}.json.new`
    await mkdir(obstacle)
    await expect(ingest.suspend()).rejects.toThrow(/EISDIR/)
    await rm(obstacle, { recursive: true })
    const again = await store.blobs.ingest(digest)
    expect(have(again)).toEqual(half)
    await again.close()
  })
})

describe('at the start', () => {
  test.each([
    garble('a journal that is cut off', (text) => text.slice(0, -5)),
    garble('an empty journal', () => ''),
    garble('a journal of zeros', (text) => Buffer.alloc(text.length)),
    garble('a journal with one figure changed', (text) => text.replace('150000', '140000')),
    garble('a journal that claims more than the file has', (text) => text.replace('150000', '9e9')),
    garble('a journal of another digest', (text) => text.replace('sha256:', 'sha256:0')),
    garble('an endless journal', () => Buffer.alloc(3_000_000, ' ')),
    ['no journal', async () => rm(await theFile('.json'))],
    ['a file cut short', async () => truncate(await theFile('.part'), 149_999)],
    ['an empty file', async () => truncate(await theFile('.part'), 0)],
    ['no file', async () => rm(await theFile('.part'))],
  ] as const)('%s is removed', async (_, damage) => {
    await (await begin()).suspend()
    expect(await files()).toHaveLength(2)
    await damage()
    await reopen()
    expect(await files()).toEqual([])
    expect(await isFresh()).toBe(true)
    expect(errors).toEqual([])
  })

  test('the same is noticed when it happens while the server runs', async () => {
    for (const [ending, size] of [
      ['.json', 10],
      ['.part', 1000],
    ] as const) {
      const ingest = await begin()
      await ingest.suspend()
      await truncate(await theFile(ending), size)
      const again = await store.blobs.ingest(digest)
      expect(again.have().bytes).toBe(0)
      await again.close()
      expect(await files()).toEqual([])
    }
  })

  test('bytes that changed on the disk are found by the digest and removed', async () => {
    await (await begin()).suspend()
    const garbled = Buffer.from(content.subarray(0, 150_000))
    garbled.writeUInt8(garbled.readUInt8(77_777) ^ 1, 77_777)
    await writeFile(await theFile('.part'), garbled)
    await reopen()
    const ingest = await store.blobs.ingest(digest)
    expect(have(ingest)).toEqual(half)
    await ingest.write(150_000, content.subarray(150_000))
    await expect(ingest.verify(content.length)).rejects.toMatchObject({ reason: 'wrong-digest' })
    await ingest.abort()
    await ingest.close()
    expect(await isFresh()).toBe(true)
  })

  test('files that cannot be removed are reported and cost nothing else', async () => {
    await (await begin()).suspend()
    await mkdir(directory.join('ingest', crypto.randomUUID()))
    await reopen()
    expect(errors).toEqual(['remove partial'])
    expect(await isFresh()).toBe(false)
  })
})

describe('removePartials', () => {
  test('removes what nobody came back for in time, and says how much that was', async () => {
    await (await begin()).suspend()
    await age(50)
    expect(await store.blobs.removePartials(60_000)).toEqual({ files: 0, bytes: 0 })
    await age(70)
    const removed = await store.blobs.removePartials(60_000)
    expect(removed.files).toBe(1)
    expect(removed.bytes).toBeGreaterThanOrEqual(150_000)
    expect(await files()).toEqual([])
    expect(await isFresh()).toBe(true)
  })

  test('keeps what is open, however old, and what was just suspended', async () => {
    await (await begin()).suspend()
    await age(1000)
    await reopen()
    const ingest = await store.blobs.ingest(digest)
    expect((await store.blobs.removePartials(0)).files).toBe(0)
    await ingest.suspend()
    expect((await store.blobs.removePartials(60_000)).files).toBe(0)
    expect((await store.blobs.removePartials(0)).files).toBe(1)
  })

  test('takes nothing from an ingest that starts at the same time', async () => {
    for (let n = 0; n < 20; n++) {
      await (await begin()).suspend()
      const [ingest] = await Promise.all([
        store.blobs.ingest(digest),
        store.blobs.removePartials(0),
      ])
      await ingest.write(0, content)
      await ingest.checkpoint()
      expect(await files()).toHaveLength(2)
      await ingest.close()
    }
  })
})

test('a server that is killed while it fills a blob leaves no byte that is not part of the blob', async () => {
  const seed = String(Math.random())
  const seeded = seededContent(seed)
  let former = 0
  for (let round = 0; round < 5; round++) {
    const child = spawn(
      process.execPath,
      [`${import.meta.dirname}/slow-writer.ts`, directory.path, seed],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    const resumed = await new Promise<string>((resolve) =>
      child.stdout.once('data', (text: Buffer) => resolve(String(text))),
    )
    expect(Number(resumed), `seed ${seed}`).toBe(former)
    await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 60))
    child.kill('SIGKILL')
    await new Promise((resolve) => child.once('exit', resolve))

    await reopen()
    const ingest = await store.blobs.ingest(seeded.digest)
    former = ingest.have().bytes
    for (const { start, end } of ingest.have()) {
      const into = Buffer.alloc(end - start)
      expect(await ingest.read(into, start)).toBe(into.length)
      expect(into.equals(seeded.content.subarray(start, end)), `seed ${seed}`).toBe(true)
    }
    await ingest.suspend()
  }
  expect(former).toBeGreaterThan(0)
  const ingest = await store.blobs.ingest(seeded.digest)
  await ingest.write(0, seeded.content)
  await ingest.verify(seeded.content.length)
  await ingest.commit()
  await ingest.close()
  expect(await files()).toEqual([])
})
