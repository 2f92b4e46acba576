import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { format, inspect } from 'node:util'
import { afterEach, expect, test, vi } from 'vitest'
import { Secret } from '../../src/config/secret.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'

afterEach(() => void vi.useRealTimers())

test('a literal is given to its user and never printed', async () => {
  const secret = new Secret('hunter2')
  expect(await secret.read()).toBe('hunter2')
  const holder = { auth: { password: secret } }
  const printed = [
    inspect(holder, { showHidden: true, depth: 9 }),
    format('%o %O %j %s', holder, holder, holder, secret),
    JSON.stringify(holder),
    secret.toString(),
    JSON.stringify(Object.entries(secret)),
  ]
  for (const text of printed) expect(text).not.toContain('hunter2')
})

test('a variable is read when it is needed', async () => {
  const secret = new Secret({ env: 'TOKEN' })
  expect(await secret.read({ env: { TOKEN: 't' } })).toBe('t')
  expect(await secret.read({ env: { TOKEN: 't\n' } })).toBe('t')
  await expect(secret.read({ env: {} })).rejects.toThrow('environment variable TOKEN is not set')
  expect(JSON.stringify(secret)).toBe('{"env":"TOKEN"}')
})

test('a file is read without the line break at its end, and is an error while it is missing', async () => {
  await using directory = await temporaryDirectory()
  const file = join(directory.path, 'password')
  const secret = new Secret({ file })
  await expect(secret.read()).rejects.toThrow('ENOENT')
  await writeFile(file, 'first\n')
  expect(await secret.read()).toBe('first')
  await writeFile(file, ' second \r\n')
  expect(await secret.read({ maxAgeMs: 0 })).toBe(' second ')
  await rm(file)
  await expect(secret.read({ maxAgeMs: 0 })).rejects.toThrow('ENOENT')
  await expect(secret.read()).rejects.toThrow('ENOENT')
})

test('a file is checked once a second, however often its secret is used', async () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  await using directory = await temporaryDirectory()
  const file = join(directory.path, 'password')
  await writeFile(file, 'first')
  const secret = new Secret({ file })
  expect(await secret.read()).toBe('first')
  await writeFile(file, 'second')
  vi.advanceTimersByTime(999)
  expect(await secret.read()).toBe('first')
  vi.advanceTimersByTime(1)
  expect(await secret.read()).toBe('second')
})

test('a file that is too large for a secret is refused without showing its content', async () => {
  await using directory = await temporaryDirectory()
  const file = join(directory.path, 'password')
  await writeFile(file, 'x'.repeat(100_000))
  await expect(new Secret({ file }).read()).rejects.toThrow(/longer than 65536 bytes/)
})
