// Files that others replace while we run, in each of the ways in which they do.
import { mkdir, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

import { ConfiguredCredentials } from '../../src/upstream/credentials/configured.ts'
import { Secret } from '../../src/config/secret.ts'
import { WatchedFile } from '../../src/files/watched-file.ts'
import { startRegistry } from '../support/registry.ts'
import { temporaryDirectory, type TemporaryDirectory } from '../support/temporary-directory.ts'
import { startTokenServer } from '../support/token-server.ts'
import { failureOf, REPO, upstreamOver } from '../upstream/upstream-fixture.ts'

let directory: TemporaryDirectory
let path: string
let now: number
let reads: string[]

beforeEach(async () => {
  directory = await temporaryDirectory()
  path = directory.join('secret')
  now = 0
  reads = []
})
afterEach(() => directory.remove())

function parse(bytes: Buffer): string {
  const text = bytes.toString()
  reads.push(text)
  if (text.startsWith('bad')) throw new Error('it cannot be used')
  return text
}

function watch(options: { keepsFormer?: boolean } = {}): WatchedFile<string> {
  return new WatchedFile(path, parse, { ...options, now: () => now })
}

/** What is in it a second later. */
async function later(file: WatchedFile<string>): Promise<string | undefined> {
  now += 1000
  return await file.current()
}

describe('a watched file', () => {
  test('is read once while it does not change', async () => {
    await writeFile(path, 'one')
    const file = watch()
    for (let i = 0; i < 50; i++) expect(await later(file)).toBe('one')
    expect(await file.current(0)).toBe('one')
    expect(reads).toEqual(['one'])
  })

  test('is checked once a second, or at once where that is asked for', async () => {
    await writeFile(path, 'one')
    const file = watch()
    expect(await file.current()).toBe('one')
    await writeFile(path, 'two')
    now += 999
    expect(await file.current()).toBe('one')
    expect(await file.current(0)).toBe('two')
  })

  test('is read again after a file was put in its place, of the same size and time', async () => {
    await writeFile(path, 'one')
    const file = watch()
    expect(await file.current()).toBe('one')
    const { atime, mtime } = await stat(path)
    await writeFile(`${path}.new`, 'two')
    await utimes(`${path}.new`, atime, mtime)
    await rename(`${path}.new`, path)
    expect(await later(file)).toBe('two')
  })

  test('is read again after it was written in place, with the same size and time', async () => {
    await writeFile(path, 'one')
    const file = watch()
    expect(await file.current()).toBe('one')
    const { atime, mtime, ctimeMs } = await stat(path)
    // The kernel's clock moves in steps.
    await expect
      .poll(async () => {
        await writeFile(path, 'two')
        await utimes(path, atime, mtime)
        return (await stat(path)).ctimeMs
      })
      .toBeGreaterThan(ctimeMs)
    expect(await later(file)).toBe('two')
  })

  test('of a mounted Kubernetes secret is read again when the link to its directory is swapped', async () => {
    await mkdir(directory.join('..1'))
    await writeFile(directory.join('..1', 'secret'), 'one')
    await symlink('..1', directory.join('..data'))
    await symlink('..data/secret', path)
    const file = watch()
    expect(await file.current()).toBe('one')
    await mkdir(directory.join('..2'))
    await writeFile(directory.join('..2', 'secret'), 'two')
    await symlink('..2', directory.join('..data_tmp'))
    await rename(directory.join('..data_tmp'), directory.join('..data'))
    await rm(directory.join('..1'), { recursive: true })
    expect(await later(file)).toBe('two')
    expect(reads).toEqual(['one', 'two'])
  })

  test('keeps its last good value while it is bad or missing', async () => {
    await writeFile(path, 'one')
    const file = watch()
    expect(await file.current()).toBe('one')
    await writeFile(path, 'bad')
    expect(await later(file)).toBe('one')
    await rm(path)
    expect(await later(file)).toBe('one')
    await writeFile(path, 'two')
    expect(await later(file)).toBe('two')
  })

  test('that could not be read is tried again though it does not change', async () => {
    await writeFile(path, 'one')
    let failing = false
    const fallible = (bytes: Buffer) => {
      if (failing) throw Object.assign(new Error('too many open files'), { code: 'EMFILE' })
      return parse(bytes)
    }
    const file = new WatchedFile(path, fallible, { now: () => now })
    expect(await file.current()).toBe('one')
    await writeFile(path, 'two, and longer')
    failing = true
    expect(await later(file)).toBe('one')
    failing = false
    expect(await later(file)).toBe('two, and longer')
  })

  test('has no value while it is bad or missing, where the last good one is not to be kept', async () => {
    await writeFile(path, 'one')
    const file = watch({ keepsFormer: false })
    expect(await file.current()).toBe('one')
    await writeFile(path, 'bad')
    now += 1000
    await expect(file.current()).rejects.toThrow('it cannot be used')
    await expect(file.current()).rejects.toThrow('it cannot be used')
    await rm(path)
    await expect(file.current()).rejects.toThrow('ENOENT')
    await writeFile(path, 'two')
    expect(await file.current()).toBe('two')
  })

  test('that is reported as changed while it is being read is read once more', async () => {
    await writeFile(path, 'one')
    const file: WatchedFile<string> = new WatchedFile(
      path,
      (bytes) => {
        if (reads.length === 0) file.recheck()
        return parse(bytes)
      },
      { now: () => now },
    )
    await file.current()
    await file.current()
    await file.current()
    expect(reads).toEqual(['one', 'one'])
  })
})

async function rotating() {
  await writeFile(path, 'old')
  const auth = { username: 'bot', password: new Secret({ file: path }) }
  const credentials = new ConfiguredCredentials({ hosts: { '*': { auth } } })
  // It is looked at now, and for a second not again.
  await credentials.prepare()
  return { credentials }
}

describe('a secret that was replaced a moment ago', () => {
  test('is used in the same pull in which the registry refuses the old one', async () => {
    const requester = await rotating()
    const auth = { kind: 'basic', username: 'bot', password: 'new' } as const
    await using registry = await startRegistry({ auth })
    const image = registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([registry.url])
    expect(await failureOf(at.upstream.getManifest(REPO, 'latest', requester))).toMatchObject({
      reason: 'bad-credentials',
    })
    await writeFile(path, 'new')
    expect(await at.upstream.getManifest(REPO, 'latest', requester)).toMatchObject({
      digest: image.digest,
    })
  })

  test('is used in the same pull in which the token server refuses the old one', async () => {
    const requester = await rotating()
    await using tokens = await startTokenServer({ users: { bot: 'new' } })
    await using registry = await startRegistry({ auth: { kind: 'token', tokens } })
    const image = registry.addImage('library/alpine', 'latest')
    await using at = upstreamOver([registry.url])
    await writeFile(path, 'new')
    expect(await at.upstream.getManifest(REPO, 'latest', requester)).toMatchObject({
      digest: image.digest,
    })
  })
})
