import { open, readFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { expect, test } from 'vitest'
import { errnoOf, storageTrouble } from '../../../src/store/disk/errno.ts'

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: whatever, write`), { code })
}

test.each([
  ['ENOSPC', 'full'],
  ['EDQUOT', 'full'],
  ['EROFS', 'read-only'],
  ['EACCES', 'read-only'],
  ['EIO', 'broken'],
  ['ENOENT', 'missing'],
  ['ESTALE', 'missing'],
  ['EMFILE', undefined],
  ['ECONNRESET', undefined],
  ['ERR_INVALID_ARG_TYPE', undefined],
])('%s means that the storage is %s, also as a cause', (code, trouble) => {
  const error = systemError(code)
  expect(storageTrouble(error)).toBe(trouble)
  const cause = new Error('writing to the cache failed', { cause: error })
  expect(storageTrouble(new Error('the download failed', { cause }))).toBe(trouble)
})

test.each([undefined, null, 'ENOSPC', { code: 'ENOSPC' }, new Error('ENOSPC')])(
  '%o is not a storage error',
  (value) => {
    expect(storageTrouble(value)).toBeUndefined()
  },
)

test('a circle of causes comes to an end', () => {
  const error = new Error('round')
  error.cause = error
  expect(storageTrouble(error)).toBeUndefined()
})

test('an error number that Node has no name for is recognised', () => {
  const number = constants.errno.EDQUOT
  const error = systemError(`Unknown system error -${number}`)
  expect(errnoOf(error)).toBe('EDQUOT')
  expect(storageTrouble(error)).toBe('full')
  expect(errnoOf(systemError('Unknown system error -99999'))).toBeUndefined()
})

test.runIf(process.platform === 'linux')(
  "the operating system's own errors are recognised",
  async () => {
    const full = await open('/dev/full', 'w')
    const failure = await full.write('x').then(
      () => undefined,
      (error: unknown) => error,
    )
    await full.close()
    expect(storageTrouble(failure)).toBe('full')
    const missing = await readFile('/nowhere/at/all').then(
      () => undefined,
      (error: unknown) => error,
    )
    expect(storageTrouble(missing)).toBe('missing')
  },
)
