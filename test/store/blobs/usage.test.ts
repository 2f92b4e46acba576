import { expect, test } from 'vitest'
import type { StoredEntry, WalkOptions } from '../../../src/store/driver/driver.ts'
import { MemoryDriver } from '../../../src/store/driver/memory.ts'
import { Usage } from '../../../src/store/blobs/usage.ts'

/** A driver whose walks wait at every entry until they are released. */
class SlowWalker extends MemoryDriver {
  readonly gate = Promise.withResolvers<void>()
  readonly reached = Promise.withResolvers<void>()

  override async *walk(prefix: string, options?: WalkOptions): AsyncIterable<StoredEntry> {
    for await (const entry of super.walk(prefix, options)) {
      this.reached.resolve()
      await this.gate.promise
      yield entry
    }
  }
}

test('a blob that comes while its shard is counted is counted once, and so is one that goes', async () => {
  const driver = new SlowWalker()
  const [held, added] = ['blobs/sha256/aa/aa01', 'blobs/sha256/aa/aa02']
  await driver.put(held, Buffer.alloc(10))
  const usage = new Usage(driver, (error) => expect.unreachable(String(error)))
  const counting = usage.count()
  await driver.reached.promise
  const adding = usage.during(added, async () => {
    await driver.put(added, Buffer.alloc(5))
    return { blobs: 1, bytes: 5 }
  })
  const removing = usage.during(held, async () => {
    await driver.remove(held)
    return { blobs: -1, bytes: -10 }
  })
  driver.gate.resolve()
  await Promise.all([counting, adding, removing])
  expect(usage.current()).toEqual({ blobs: 1, bytes: 5, complete: true })
})

test('a blob that came before its shard was reached is counted once', async () => {
  const driver = new SlowWalker()
  await driver.put('blobs/sha256/00/00', Buffer.alloc(1))
  const usage = new Usage(driver, (error) => expect.unreachable(String(error)))
  const counting = usage.count()
  await driver.reached.promise
  await usage.during('blobs/sha512/ff/ff', async () => {
    await driver.put('blobs/sha512/ff/ff', Buffer.alloc(5))
    return { blobs: 1, bytes: 5 }
  })
  expect(usage.current()).toEqual({ blobs: 0, bytes: 0, complete: false })
  driver.gate.resolve()
  await counting
  expect(usage.current()).toEqual({ blobs: 2, bytes: 6, complete: true })
})

test('a count that fails says so and is not complete', async () => {
  const errors: unknown[] = []
  class Broken extends MemoryDriver {
    override walk(): AsyncIterable<StoredEntry> {
      throw new Error('unreadable')
    }
  }
  const usage = new Usage(new Broken(), (error) => errors.push(error))
  await usage.count()
  expect(errors).toEqual([new Error('unreadable')])
  expect(usage.current().complete).toBe(false)
})
