import { describe, expect, test } from 'vitest'
import { Keeping } from '../../src/observability/keeping.ts'

function failure(code: string): Error {
  return Object.assign(new Error(`${code}: it failed`), { code })
}

describe('content that is not being kept', () => {
  test.each([
    ['ENOSPC', 'the file system is full'],
    ['EDQUOT', 'the quota is used up'],
    ['EROFS', 'the cache directory is not writable'],
    ['EIO', 'the disk reports errors'],
    ['ENOENT', 'the cache directory no longer exists'],
  ])('is reported with the meaning of %s', (code, meaning) => {
    const keeping = new Keeping()
    keeping.storeError('write', new Error('writing failed', { cause: failure(code) }))
    expect(keeping.describe()).toHaveLength(1)
    expect(keeping.describe()[0]).toContain('blobs are not being kept')
    expect(keeping.describe()[0]).toContain(meaning)
  })

  test('is no longer reported when such content is written again, and not when other content is', () => {
    let now = 1000
    const keeping = new Keeping(() => now)
    for (const operation of ['commit', 'write manifest', 'write referrers', 'fit']) {
      keeping.storeError(operation, failure('ENOSPC'))
    }
    now += 3000
    expect(keeping.describe().map((each) => each.split(':')[0])).toEqual([
      'blobs are not being kept',
      'manifests are not being kept',
      'referrers are not being kept',
      'blobs that do not fit are not being kept',
    ])
    expect(keeping.describe()[0]).toMatch(/last tried 3 s ago$/)
    keeping.kept()
    keeping.stored('write manifest')
    expect(keeping.describe()).toHaveLength(2)
  })

  test('is no longer reported when it was not tried for a long time', () => {
    let now = 0
    const keeping = new Keeping(() => now)
    keeping.storeError('fit', failure('ENOSPC'))
    now += 11 * 60_000
    expect(keeping.describe()).toEqual([])
  })

  test('does not include content that cannot be read', () => {
    const keeping = new Keeping()
    keeping.storeError('read tag', failure('EIO'))
    keeping.storeError('open blob', failure('EIO'))
    expect(keeping.describe()).toEqual([])
  })
})
