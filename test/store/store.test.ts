import { spawn } from 'node:child_process'
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { explainStorageError } from '../../src/store/disk/errno.ts'
import { MemoryDriver } from '../../src/store/driver/memory.ts'
import { openStore } from '../../src/store/store.ts'
import { hangFilesBelow } from '../support/failing-files.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'

const content = Buffer.from('some content')
const digest = digestOf(content)

describe('openStore', () => {
  test('makes a new directory, and finds what was kept when it is opened again', async () => {
    await using directory = await temporaryDirectory()
    const path = directory.join('a', 'data')
    const store = await openStore({ directory: path })
    const ingest = await store.blobs.ingest(digest)
    await ingest.write(0, content)
    await ingest.verify(content.length)
    await ingest.commit()
    await ingest.close()
    await store.close()
    expect(await readFile(directory.join('a/data/version'), 'utf8')).toBe('1\n')
    const again = await openStore({ directory: path })
    expect(await again.blobs.stat(digest)).toEqual({ size: content.length })
    await again.close()
  })

  test('removes what a killed server left half done, and nothing else', async () => {
    await using directory = await temporaryDirectory()
    const first = await openStore({ directory: directory.path })
    const ingest = await first.blobs.ingest(digest)
    await ingest.write(0, content)
    await first.close()
    await writeFile(directory.join('ingest', 'somebody-elses.txt'), 'stays')
    await writeFile(directory.join('somebody-elses.txt'), 'stays')
    expect(await readdir(directory.join('ingest'))).toHaveLength(2)
    await (await openStore({ directory: directory.path })).close()
    expect(await readdir(directory.join('ingest'))).toEqual(['somebody-elses.txt'])
    expect(await readFile(directory.join('somebody-elses.txt'), 'utf8')).toBe('stays')
    await ingest.close()
  })

  test('removes nothing from a directory that was no store before', async () => {
    await using directory = await temporaryDirectory()
    await mkdir(directory.join('ingest'))
    await writeFile(directory.join('ingest', crypto.randomUUID()), 'somebody else’s')
    await (await openStore({ directory: directory.path })).close()
    expect(await readdir(directory.join('ingest'))).toHaveLength(1)
  })

  test('leaves the directory of a newer version untouched and says what to do', async () => {
    await using directory = await temporaryDirectory()
    await writeFile(directory.join('version'), '2\n')
    await mkdir(directory.join('ingest'))
    await writeFile(directory.join('ingest', 'theirs'), 'half')
    await expect(openStore({ directory: directory.path })).rejects.toThrow(
      /newer Chandlery \(layout 2, this one knows 1\).*storage\.directory/,
    )
    expect(await readdir(directory.path)).toEqual(['ingest', 'version'])
    expect(await readdir(directory.join('ingest'))).toEqual(['theirs'])
  })

  test.each(['', '0', 'v1', '1 1', 'a'.repeat(200)])(
    'refuses a version file that holds %j',
    async (text) => {
      await using directory = await temporaryDirectory()
      await writeFile(directory.join('version'), text)
      const failure = openStore({ directory: directory.path })
      await expect(failure).rejects.toThrow(/not a Chandlery store/)
      await expect(failure).rejects.toThrow(directory.path)
      expect(await readdir(directory.path)).toEqual(['version'])
    },
  )

  test('names the directory and the remedy where a part of the path is a file', async () => {
    await using directory = await temporaryDirectory()
    await writeFile(directory.join('file'), '')
    const path = directory.join('file', 'data')
    const failure = openStore({ directory: path })
    await expect(failure).rejects.toThrow(`cannot use the storage directory ${path} (ENOTDIR)`)
    await expect(failure).rejects.toThrow(/part of the path is a file/)
  })

  // Root can write anywhere.
  test.skipIf(process.getuid?.() === 0)('names the remedy where it may not write', async () => {
    await using directory = await temporaryDirectory()
    await chmod(directory.path, 0o500)
    await expect(openStore({ directory: directory.path })).rejects.toThrow(
      /EACCES.*change its owner/,
    )
    await chmod(directory.path, 0o700)
  })

  test('keeps content in another driver, and ingests in the directory', async () => {
    await using directory = await temporaryDirectory()
    const driver = new MemoryDriver()
    const store = await openStore({ directory: directory.path, driver })
    const ingest = await store.blobs.ingest(digest)
    await ingest.write(0, content)
    await ingest.verify()
    await ingest.commit()
    await ingest.close()
    expect((await store.blobs.open(digest))?.size).toBe(content.length)
    expect(await readdir(directory.path)).toEqual(['ingest'])
    await store.close()
  })

  test('writes nothing once it is closed, and has written all that it had begun', async () => {
    await using directory = await temporaryDirectory()
    const store = await openStore({ directory: directory.path })
    const manifest = Buffer.from('{"schemaVersion":2}')
    await store.manifests.put(digestOf(manifest), manifest)
    using disk = await hangFilesBelow(directory.path, 'rm')
    const removing = store.manifests.remove(digestOf(manifest))
    const waiting = store.manifests.remove(digestOf(manifest))
    await expect.poll(() => disk.count).toBe(1)
    let isClosed = false
    const closing = store.close().then(() => (isClosed = true))
    await expect(store.manifests.put(digest, content)).rejects.toThrow('the store is closed')
    await expect(store.driver.move('version', 'elsewhere')).rejects.toThrow('the store is closed')
    await expect(store.blobs.ingest(digest)).rejects.toThrow('the store is closed')
    await expect(store.blobs.removePartials(0)).rejects.toThrow('the store is closed')
    expect(isClosed).toBe(false)
    disk[Symbol.dispose]()
    await removing
    await expect(waiting).rejects.toThrow('the store is closed')
    await closing
    expect(await store.manifests.get(digestOf(manifest))).toBeUndefined()
    expect((await readdir(directory.path)).toSorted()).toEqual(['ingest', 'manifests', 'version'])
    expect(await readdir(directory.join('ingest'))).toEqual([])
  })

  test('holds either no blob or a good one after a server was killed while it wrote', async () => {
    await using directory = await temporaryDirectory()
    for (let round = 0; round < 3; round++) {
      const child = spawn(
        process.execPath,
        [`${import.meta.dirname}/busy-writer.ts`, directory.path],
        {
          stdio: ['ignore', 'pipe', 'inherit'],
        },
      )
      await new Promise((resolve) => child.stdout.once('data', resolve))
      await new Promise((resolve) => setTimeout(resolve, 30 + round * 40))
      child.kill('SIGKILL')
      await new Promise((resolve) => child.once('exit', resolve))
      const store = await openStore({ directory: directory.path })
      let blobs = 0
      for await (const { key } of store.driver.walk('blobs/')) {
        const held = await store.driver.get(key)
        expect(key.endsWith(digestOf(held!.bytes).slice('sha256:'.length))).toBe(true)
        blobs++
      }
      expect(blobs).toBeGreaterThan(0)
      for await (const { key } of store.driver.walk('repositories/')) {
        expect(JSON.parse((await store.driver.get(key))!.bytes.toString())).toMatchObject({
          size: 50_000,
        })
      }
      await store.blobs.removePartials(0)
      expect(await readdir(directory.join('ingest'))).toEqual([])
      await store.close()
    }
  })
})

test.each([
  [
    'EACCES',
    new RegExp(`: user ${process.geteuid?.()} may not write there: change its owner or mode`),
  ],
  ['EROFS', /mount it writable/],
  ['ENOSPC', /free some space/],
  ['EMFILE', /ulimit/],
  ['EXDEV', /different file systems/],
])('%s becomes a message that names the directory and the remedy', (code, cure) => {
  const cause = Object.assign(new Error(`${code}: whatever`), { code })
  const explained = explainStorageError(cause, '/srv/cache')
  expect(explained.message).toMatch(cure)
  expect(explained.message).toContain(`/srv/cache (${code})`)
  expect(explained.cause).toBe(cause)
})

test('an error that is not a system error stays as it is', () => {
  const error = new Error('something else')
  expect(explainStorageError(error, '/srv/cache')).toBe(error)
  const aborted = Object.assign(new Error('aborted'), { code: 'ABORT_ERR' })
  expect(explainStorageError(aborted, '/srv/cache')).toBe(aborted)
  expect(explainStorageError('text', '/srv/cache').message).toBe('text')
})
