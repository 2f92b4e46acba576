import { mkdir, readdir, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { FilesystemDriver } from '../../../src/store/driver/filesystem.ts'
import { storageDriverSuite } from '../../suites/storage-driver.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'

async function createDriver(directory: string): Promise<FilesystemDriver> {
  await mkdir(join(directory, 'ingest'), { recursive: true })
  return new FilesystemDriver(directory)
}

storageDriverSuite('FilesystemDriver', createDriver)

describe('FilesystemDriver', () => {
  test('leaves no temporary file behind, whether a put works or fails', async () => {
    await using directory = await temporaryDirectory()
    const driver = await createDriver(directory.path)
    await driver.put('a/file', Buffer.from('1'))
    await expect(driver.put('a/file/below', Buffer.from('2'))).rejects.toThrow(/ENOTDIR|EEXIST/)
    await expect(driver.put('a', Buffer.from('3'))).rejects.toThrow(/EISDIR|ENOTEMPTY|EEXIST/)
    expect(await readdir(directory.join('ingest'))).toEqual([])
  })

  test('keeps the last use as mtime, which can be set from outside', async () => {
    await using directory = await temporaryDirectory()
    const driver = await createDriver(directory.path)
    await driver.put('a', Buffer.from('1'))
    await utimes(directory.join('a'), 1000, 2000)
    expect((await driver.stat('a'))?.usedAtMs).toBe(2_000_000)
  })

  test('walks neither ingests nor claims, which are not keys', async () => {
    await using directory = await temporaryDirectory()
    const driver = await createDriver(directory.path)
    await mkdir(directory.join('owner'))
    await writeFile(directory.join('ingest', 'half'), 'half')
    await writeFile(directory.join('owner', 'claim.json'), '{}')
    await driver.put('version', Buffer.from('1'))
    const keys: string[] = []
    for await (const { key } of driver.walk('')) keys.push(key)
    expect(keys).toEqual(['version'])
  })

  test('follows no symbolic link while walking', async () => {
    await using directory = await temporaryDirectory()
    const driver = await createDriver(directory.path)
    await driver.put('blobs/x', Buffer.from('1'))
    await symlink(directory.path, directory.join('blobs', 'loop'))
    const keys: string[] = []
    for await (const { key } of driver.walk('')) keys.push(key)
    expect(keys).toEqual(['blobs/x'])
  })

  test('makes directories again that were removed under it', async () => {
    await using directory = await temporaryDirectory()
    const driver = await createDriver(directory.path)
    await driver.put('a/b/c', Buffer.from('1'))
    await directory.remove()
    await mkdir(directory.join('ingest'), { recursive: true })
    await driver.put('a/b/c', Buffer.from('2'))
    expect((await driver.get('a/b/c'))?.bytes.toString()).toBe('2')
  })
})
