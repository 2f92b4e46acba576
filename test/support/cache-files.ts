// What a cache directory has on the disk, and what this process has open of it.
import { readdir, readFile, readlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { expect } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'

/** The paths of all files below; none where it is not there. */
export async function filesBelow(path: string): Promise<string[]> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => [])
  const files = entries.filter((entry) => entry.isFile())
  return files.map(({ parentPath, name }) => join(parentPath, name))
}

/** Below the path, by this process; Linux only. */
export async function openBelow(path: string): Promise<string[]> {
  const links = (await readdir('/proc/self/fd')).map((number) => `/proc/self/fd/${number}`)
  const targets = await Promise.all(links.map((link) => readlink(link).catch(() => '')))
  return targets.filter((target) => target.startsWith(path))
}

/** Each is kept under the digest that its bytes have: `<algorithm>/<xx>/<encoded>`. */
export async function expectVerified(paths: readonly string[]): Promise<void> {
  expect(await unverified(paths)).toEqual([])
}

/** The paths of those that are not. */
export async function unverified(paths: readonly string[]): Promise<string[]> {
  const wrong: string[] = []
  for (const path of paths) {
    const algorithm = basename(dirname(dirname(path))) === 'sha512' ? 'sha512' : 'sha256'
    const digest = digestOf(await readFile(path), algorithm)
    if (digest !== `${algorithm}:${basename(path)}`) wrong.push(path)
  }
  return wrong
}
