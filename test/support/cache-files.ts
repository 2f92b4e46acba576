// Lists the files of a cache directory, and those of them that this process has open.
import { readdir, readFile, readlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { expect } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'

/** Returns the paths of all files below a directory, or none if it does not exist. */
export async function filesBelow(path: string): Promise<string[]> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = entries.filter((entry) => entry.isFile())
  return files.map(({ parentPath, name }) => join(parentPath, name))
}

/** Returns the files below the path that this process has open. Linux only. */
export async function openBelow(path: string): Promise<string[]> {
  const links = (await readdir('/proc/self/fd')).map((number) => `/proc/self/fd/${number}`)
  const targets = await Promise.all(links.map((link) => readlink(link).catch(() => '')))
  return targets.filter((target) => target.startsWith(path))
}

/** Checks that each file's path names the digest of its bytes: `<algorithm>/<xx>/<encoded>`. */
export async function expectVerified(paths: readonly string[]): Promise<void> {
  expect(await unverified(paths)).toEqual([])
}

/** Returns the paths of the files whose names are not the digests of their bytes. */
export async function unverified(paths: readonly string[]): Promise<string[]> {
  const wrong: string[] = []
  for (const path of paths) {
    const algorithm = basename(dirname(dirname(path))) === 'sha512' ? 'sha512' : 'sha256'
    const digest = digestOf(await readFile(path), algorithm)
    if (digest !== `${algorithm}:${basename(path)}`) wrong.push(path)
  }
  return wrong
}
