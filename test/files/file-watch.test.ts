// The watch over files, on real ones: every way in which configuration is replaced in practice.
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import fs, {
  appendFile,
  mkdir,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { FileWatch } from '../../src/files/file-watch.ts'
import { differing, FingerprintReader, NOT_REGULAR } from '../../src/files/fingerprints.ts'
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts'

const EVERY_MS = 20

const readFingerprints = (files: readonly string[]) => new FingerprintReader().read(files)

let directory: TemporaryDirectory
let watch: FileWatch
let file: string
let told: string[]

beforeEach(async () => {
  directory = await temporaryDirectory()
  file = directory.join('chandlery.yaml')
  await writeFile(file, 'one')
})

afterEach(async () => {
  watch.stop()
  await directory.remove()
})

/** Looks at these from now on; notes what the first of them is at each change. */
async function look(...files: string[]): Promise<void> {
  told = []
  const [first = ''] = files
  watch = new FileWatch({
    reader: new FingerprintReader(),
    files: () => files,
    everyMs: EVERY_MS,
    onChange: async () => void told.push((await readFingerprints([first])).get(first) ?? ''),
    onError: (error) => void told.push(String(error)),
  })
  watch.settle(await readFingerprints(files))
  watch.start()
}

async function untilTold(times: number): Promise<void> {
  for (let tries = 0; told.length < times; tries++) {
    if (tries > 200) throw new Error(`told ${told.length} times, not ${times}`)
    await sleep(EVERY_MS / 2)
  }
  await sleep(4 * EVERY_MS)
  expect(told).toHaveLength(times)
}

const fingerprintOf = async (path: string) => (await readFingerprints([path])).get(path)

test('a file that stays the same, touched or not, is not reported', async () => {
  await look(file)
  await utimes(file, new Date(), new Date())
  await writeFile(file, 'one')
  await sleep(6 * EVERY_MS)
  expect(told).toEqual([])
})

test('a file renamed into place is reported once', async () => {
  await look(file)
  await writeFile(`${file}.new`, 'two')
  await rename(`${file}.new`, file)
  await untilTold(1)
  expect(told).toEqual([await fingerprintOf(file)])
})

test('a file rewritten in place, of the same size and with the same time, is reported once', async () => {
  const at = new Date(1_700_000_000_000)
  await utimes(file, at, at)
  await look(file)
  await writeFile(file, 'two')
  await utimes(file, at, at)
  await untilTold(1)
})

test('links swapped as Kubernetes swaps them are reported once, for all files together', async () => {
  const mount = directory.join('mount')
  const names = ['chandlery.yaml', 'ca.pem']
  const write = async (version: string) => {
    await mkdir(directory.join('mount', version), { recursive: true })
    for (const name of names) await writeFile(directory.join('mount', version, name), version)
    await symlink(version, `${mount}/..data_tmp`)
    await rename(`${mount}/..data_tmp`, `${mount}/..data`)
  }
  await write('..2026_1')
  for (const name of names) await symlink(`..data/${name}`, `${mount}/${name}`)
  await look(...names.map((name) => `${mount}/${name}`))
  await write('..2026_2')
  await rm(`${mount}/..2026_1`, { recursive: true })
  await untilTold(1)
  await write('..2026_3')
  await untilTold(2)
})

test('a file that vanishes is reported, and reported again when it comes back', async () => {
  await look(file)
  await rm(file)
  await untilTold(1)
  await writeFile(file, 'one')
  await untilTold(2)
  expect(told).toEqual(['ENOENT', await fingerprintOf(file)])
})

test('a file that is gone for less than two looks is not reported', async () => {
  await look(file)
  await rm(file)
  await writeFile(file, 'one')
  await sleep(6 * EVERY_MS)
  expect(told).toEqual([])
})

test('a file that is still being written is reported when it is whole', async () => {
  await look(file)
  await writeFile(file, 'part ')
  for (let part = 0; part < 30; part++) {
    await appendFile(file, `${part} `)
    await sleep(EVERY_MS / 4)
  }
  await untilTold(1)
  expect(told).toEqual([await fingerprintOf(file)])
})

test('a file that never stops changing does not keep the change of another from being reported', async () => {
  const restless = directory.join('restless')
  let number = 0
  const writing = setInterval(() => writeFileSync(restless, String(number++)), EVERY_MS / 4)
  try {
    await look(file, restless)
    await writeFile(file, 'two')
    const two = await fingerprintOf(file)
    for (let tries = 0; !told.includes(two ?? ''); tries++) {
      expect(tries).toBeLessThan(200)
      await sleep(EVERY_MS)
    }
  } finally {
    clearInterval(writing)
  }
})

test('a change that comes while the owner is busy with another is reported after it', async () => {
  let busy = 0
  told = []
  watch = new FileWatch({
    reader: new FingerprintReader(),
    files: () => [file],
    everyMs: EVERY_MS,
    onChange: async () => {
      expect(++busy).toBe(1)
      if (told.length === 0) await writeFile(file, 'three')
      await sleep(4 * EVERY_MS)
      told.push('told')
      busy -= 1
    },
    onError: (error) => void told.push(String(error)),
  })
  watch.settle(await readFingerprints([file]))
  watch.start()
  await writeFile(file, 'two')
  await untilTold(2)
})

test('a pipe is not read, and neither a directory nor an unreadable file is an error', async () => {
  const pipe = directory.join('pipe')
  execFileSync('mkfifo', [pipe])
  const prints = await readFingerprints([pipe, directory.path, directory.join('none')])
  expect([...prints.values()]).toEqual([NOT_REGULAR, 'EISDIR', 'ENOENT'])
  await look(file)
})

test('fingerprints differ by content, and by process', () => {
  const one = new Map([
    ['a', '1'],
    ['b', '1'],
  ])
  const other = new Map([
    ['a', '2'],
    ['b', '1'],
    ['c', '1'],
  ])
  expect(differing(one, other)).toEqual(['a', 'c'])
  expect(differing(one, one)).toEqual([])
})

test('a file that is unchanged by its stat is not read again', async () => {
  const reader = new FingerprintReader()
  // Older than the coarsest clock of a file system: only then is what stat says of it believed.
  await expect.poll(async () => Date.now() - (await stat(file)).ctimeMs).toBeGreaterThan(2000)
  const [before] = (await reader.read([file])).values()
  const opened = vi.spyOn(fs, 'open')
  try {
    syncBuiltinESMExports()
    expect([...(await reader.read([file])).values()]).toEqual([before])
    expect(opened).not.toHaveBeenCalled()
    await writeFile(file, 'two')
    expect([...(await reader.read([file])).values()]).not.toEqual([before])
    expect(opened).toHaveBeenCalled()
  } finally {
    opened.mockRestore()
    syncBuiltinESMExports()
  }
})
