// The suite that every implementation of StorageDriver must pass.

import { randomBytes } from 'node:crypto'
import { access, open, writeFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { PreconditionFailed } from '../../src/store/driver/driver.ts'
import type { StorageDriver, StoredEntry, WalkOptions } from '../../src/store/driver/driver.ts'
import { temporaryDirectory } from '../support/temporary-directory.ts'
import type { TemporaryDirectory } from '../support/temporary-directory.ts'

function text(value: string): Buffer {
  return Buffer.from(value)
}

function isGone(file: string): Promise<boolean> {
  return access(file).then(
    () => false,
    () => true,
  )
}

/** `create` gets the path of a directory that belongs to the test and is removed after it. */
export function storageDriverSuite(
  name: string,
  create: (directory: string) => Promise<StorageDriver>,
): void {
  describe(`${name} as a storage driver`, () => {
    let directory: TemporaryDirectory
    let driver: StorageDriver

    beforeEach(async () => {
      directory = await temporaryDirectory()
      driver = await create(directory.join('kept'))
    })
    afterEach(() => directory.remove())

    const read = async (key: string) => (await driver.get(key))?.bytes.toString()
    const finished = async (content: Uint8Array) => {
      const file = directory.join(`finished-${randomBytes(6).toString('hex')}`)
      await writeFile(file, content)
      return file
    }
    const collect = async (prefix: string, options?: WalkOptions) => {
      const found: StoredEntry[] = []
      for await (const entry of driver.walk(prefix, options)) found.push(entry)
      return found.toSorted((a, b) => (a.key < b.key ? -1 : 1))
    }
    const keys = async (prefix: string, options?: WalkOptions) =>
      (await collect(prefix, options)).map((entry) => entry.key)

    describe('get and put', () => {
      test('give back the bytes that were put, and the same etag', async () => {
        const value = randomBytes(100_000)
        const etag = await driver.put('a/b/c', value)
        expect(await driver.get('a/b/c')).toEqual({ bytes: value, etag })
      })

      test('replace the former value as a whole', async () => {
        await driver.put('a', text('a long first value'))
        await driver.put('a', text('short'))
        expect(await read('a')).toBe('short')
      })

      test('tell an empty value from none', async () => {
        await driver.put('empty', new Uint8Array())
        expect((await driver.get('empty'))?.bytes.length).toBe(0)
        expect(await driver.get('none')).toBeUndefined()
        expect(await driver.get('none/below')).toBeUndefined()
      })

      test("do not keep the caller's buffer", async () => {
        const value = text('before')
        await driver.put('a', value)
        value.write('BEHIND')
        expect(await read('a')).toBe('before')
        ;(await driver.get('a'))?.bytes.write('BEHIND')
        expect(await read('a')).toBe('before')
      })

      test.each(['all', 'content', 'none'] as const)(
        'work with durability %s',
        async (durability) => {
          await driver.put('x/y', text('1'), { durability })
          await driver.put('x/y', text('2'), { durability })
          expect(await read('x/y')).toBe('2')
        },
      )

      test('never show a reader half of a value', async () => {
        const values = ['a', 'b'].map((letter) => text(letter.repeat(200_000)))
        await driver.put('key', values[0]!)
        const write = async () => {
          for (let n = 0; n < 20; n++)
            await driver.put('key', values[n % 2]!, { durability: 'none' })
        }
        const writer = { done: false }
        const writing = write().finally(() => (writer.done = true))
        let reads = 0
        while (!writer.done) {
          const bytes = (await driver.get('key'))?.bytes
          expect(values.some((value) => bytes !== undefined && value.equals(bytes))).toBe(true)
          reads++
        }
        await writing
        expect(reads).toBeGreaterThan(0)
      })
    })

    describe('put with ifMatch', () => {
      test('replaces the value that the etag names, and no other', async () => {
        const first = await driver.put('a', text('1'))
        const second = await driver.put('a', text('2'), { ifMatch: first })
        await expect(driver.put('a', text('3'), { ifMatch: first })).rejects.toThrow(
          PreconditionFailed,
        )
        expect(await read('a')).toBe('2')
        await driver.put('a', text('4'), { ifMatch: second })
        expect(await read('a')).toBe('4')
      })

      test('writes with null only where nothing is', async () => {
        await driver.put('a', text('1'), { ifMatch: null })
        await expect(driver.put('a', text('2'), { ifMatch: null })).rejects.toThrow(
          PreconditionFailed,
        )
        expect(await read('a')).toBe('1')
      })

      test('fails with an etag where nothing is', async () => {
        const etag = await driver.put('a', text('1'))
        await driver.remove('a')
        await expect(driver.put('a', text('2'), { ifMatch: etag })).rejects.toThrow(
          PreconditionFailed,
        )
        expect(await driver.get('a')).toBeUndefined()
      })

      test('loses no update, however many write at once', async () => {
        await driver.put('counter', text('0'))
        const increment = async (): Promise<void> => {
          for (;;) {
            const held = await driver.get('counter')
            const next = text(String(Number(held!.bytes.toString()) + 1))
            try {
              await driver.put('counter', next, { ifMatch: held!.etag, durability: 'none' })
              return
            } catch (error) {
              if (!(error instanceof PreconditionFailed)) throw error
            }
          }
        }
        await Promise.all(Array.from({ length: 12 }, increment))
        expect(await read('counter')).toBe('12')
      })

      test('lets exactly one of many creators win', async () => {
        const results = await Promise.allSettled(
          Array.from({ length: 10 }, (_, n) => driver.put('k', text(`${n}`), { ifMatch: null })),
        )
        expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1)
      })
    })

    describe('open', () => {
      test('reads at any place, and returns the count at the end', async () => {
        const value = randomBytes(1000)
        await driver.put('a', value)
        const object = (await driver.open('a'))!
        expect(object.size).toBe(1000)
        const into = Buffer.alloc(300)
        expect(await object.read(into, 100)).toBe(300)
        expect(into.equals(value.subarray(100, 400))).toBe(true)
        expect(await object.read(into, 900)).toBe(100)
        expect(into.subarray(0, 100).equals(value.subarray(900))).toBe(true)
        expect(await object.read(into, 1000)).toBe(0)
        expect(await object.read(into, 5000)).toBe(0)
        expect(await object.read(Buffer.alloc(0), 0)).toBe(0)
        await object.close()
      })

      test('gives undefined where nothing is, a directory included', async () => {
        await driver.put('a/b', text('1'))
        expect(await driver.open('none')).toBeUndefined()
        expect(await driver.open('a')).toBeUndefined()
        expect(await driver.stat('a')).toBeUndefined()
        expect(await driver.get('a')).toBeUndefined()
        expect(await driver.open('a/b/c')).toBeUndefined()
      })

      test('goes on reading what was opened when the key is removed or replaced', async () => {
        await driver.put('a', text('former'))
        const object = (await driver.open('a'))!
        await driver.put('a', text('latter'))
        await driver.remove('a')
        const into = Buffer.alloc(6)
        expect(await object.read(into, 0)).toBe(6)
        expect(into.toString()).toBe('former')
        await object.close()
      })

      test('may be closed twice, and fails to read afterwards', async () => {
        await driver.put('a', text('1'))
        const object = (await driver.open('a'))!
        await Promise.all([object.close(), object.close()])
        await object.close()
        await expect(object.read(Buffer.alloc(1), 0)).rejects.toThrow()
      })
    })

    describe('stat and touch', () => {
      test('tell size and last use, which a touch renews', async () => {
        const before = Date.now() - 1000
        await driver.put('a', text('12345'))
        const first = await driver.stat('a')
        expect(first).toMatchObject({ key: 'a', size: 5 })
        expect(first!.usedAtMs).toBeGreaterThan(before)
        const touched = async () => {
          await driver.touch('a')
          return (await driver.stat('a'))!.usedAtMs
        }
        await expect.poll(touched).toBeGreaterThan(first!.usedAtMs)
        expect(await read('a')).toBe('12345')
      })

      test('give undefined and do nothing for an absent key', async () => {
        await driver.touch('none')
        expect(await driver.stat('none')).toBeUndefined()
        expect(await keys('')).toEqual([])
      })
    })

    describe('adopt', () => {
      test('takes over a finished file', async () => {
        const content = randomBytes(5000)
        const file = await finished(content)
        await driver.adopt('blobs/x', file)
        expect((await driver.get('blobs/x'))?.bytes.equals(content)).toBe(true)
        expect(await isGone(file)).toBe(true)
      })

      test('keeps the value of an existing key and removes the file', async () => {
        await driver.put('k', text('held'))
        const file = await finished(text('other'))
        await driver.adopt('k', file)
        expect(await read('k')).toBe('held')
        expect(await isGone(file)).toBe(true)
      })

      test('replaces an existing value with `replace`', async () => {
        await driver.put('k', text('held'))
        const file = await finished(text('other'))
        await driver.adopt('k', file, { replace: true })
        expect(await read('k')).toBe('other')
        expect(await isGone(file)).toBe(true)
      })

      test('leaves a descriptor of the file readable', async () => {
        const file = await finished(text('bytes'))
        const handle = await open(file, 'r')
        await driver.adopt('k', file)
        expect((await handle.read(Buffer.alloc(5), 0, 5, 0)).bytesRead).toBe(5)
        await handle.close()
      })

      test('fails for a file that does not exist', async () => {
        await expect(driver.adopt('k', directory.join('no-such-file'))).rejects.toThrow()
        expect(await driver.get('k')).toBeUndefined()
      })

      test('keeps one of many at once and removes every file', async () => {
        const files = await Promise.all(Array.from({ length: 8 }, () => finished(text('same'))))
        await Promise.all(files.map((file) => driver.adopt('k', file)))
        expect(await read('k')).toBe('same')
        expect(await Promise.all(files.map(isGone))).not.toContain(false)
      })
    })

    describe('move', () => {
      test('gives the value another key, and replaces an existing value', async () => {
        await driver.put('a/b', text('value'))
        await driver.put('c', text('former'))
        const object = (await driver.open('a/b'))!
        expect(await driver.move('a/b', 'c')).toBe(true)
        expect(await driver.move('c', 'new/d')).toBe(true)
        expect(await keys('')).toEqual(['new/d'])
        expect(await read('new/d')).toBe('value')
        expect(await object.read(Buffer.alloc(5), 0)).toBe(5)
        await object.close()
      })

      test('changes nothing where nothing is', async () => {
        await driver.put('c', text('former'))
        expect(await driver.move('a/b', 'c')).toBe(false)
        expect(await read('c')).toBe('former')
        expect(await keys('')).toEqual(['c'])
      })
    })

    test('removes a key, also where nothing is', async () => {
      await driver.put('a/b', text('1'))
      await driver.put('a/c', text('2'))
      await driver.remove('a/b')
      await driver.remove('a/b')
      await driver.remove('never/was')
      expect(await keys('')).toEqual(['a/c'])
    })

    describe('walk', () => {
      test('finds every entry under the prefix, and nothing beside it', async () => {
        for (const key of ['blobs/a/1', 'blobs/a/2', 'blobs/b/3', 'blobsier/4', 'version']) {
          await driver.put(key, text(key), { durability: 'none' })
        }
        expect(await keys('blobs/')).toEqual(['blobs/a/1', 'blobs/a/2', 'blobs/b/3'])
        expect(await keys('blobs/a/')).toEqual(['blobs/a/1', 'blobs/a/2'])
        expect(await keys('')).toHaveLength(5)
        expect(await keys('none/')).toEqual([])
        expect((await collect('blobs/b/'))[0]).toMatchObject({ key: 'blobs/b/3', size: 9 })
        expect((await collect('blobs/b/'))[0]!.usedAtMs).toBeGreaterThan(Date.now() - 60_000)
      })

      test('finds all of many keys', async () => {
        const all = Array.from(
          { length: 150 },
          (_, n) => `d/${n % 3}/${String(n).padStart(4, '0')}`,
        )
        await Promise.all(all.map((key) => driver.put(key, text(key), { durability: 'none' })))
        expect(await keys('d/')).toEqual(all.toSorted())
      })

      test('need not find what the hint leaves out, and finds the rest', async () => {
        for (const key of ['r/a/_blobs/1', 'r/a/_tags/2', 'r/b/_tags/3'])
          await driver.put(key, text('.'))
        const found = await keys('r/', { enter: (prefix) => !prefix.endsWith('/_blobs/') })
        expect(found).toEqual(expect.arrayContaining(['r/a/_tags/2', 'r/b/_tags/3']))
      })

      test('survives entries that come and go meanwhile, and may be ended early', async () => {
        for (let n = 0; n < 40; n++) await driver.put(`d/${n}/x`, text('.'), { durability: 'none' })
        let seen = 0
        for await (const { key } of driver.walk('d/')) {
          seen++
          await driver.remove(key)
          await driver.remove(`d/${(seen * 7) % 40}/x`)
        }
        expect(seen).toBeGreaterThan(0)
        await driver.put('d/left', text('.'))
        for await (const { key } of driver.walk('d/')) {
          expect(key).toMatch(/^d\//)
          break
        }
      })

      test('accepts prefixes of whole components only', async () => {
        for (const prefix of ['blobs', '/', '../', 'a/../', '/etc/']) {
          await expect(keys(prefix), prefix).rejects.toThrow(TypeError)
        }
      })
    })

    test('tells how much space there is, and how much of it is free', async () => {
      const { freeBytes, totalBytes } = await driver.space()
      expect(freeBytes).toBeGreaterThan(0)
      expect(totalBytes).toBeGreaterThanOrEqual(freeBytes)
    })

    describe('keys', () => {
      const longest = 'n'.repeat(255)

      test.each([
        'repositories/registry.example.com:5000/a/_tags/V1.0_x-y',
        'repositories/[::1]:5000/a/_tags/latest',
        'repositories/localhost/a/b/c/d/e/f/_tags/latest',
        `blobs/${longest}`,
      ])('such as %s can be kept and found again', async (key) => {
        await driver.put(key, text(key))
        expect(await read(key)).toBe(key)
        expect(await keys('')).toEqual([key])
      })

      test('are told apart by case', async () => {
        await driver.put('t/Latest', text('upper'))
        await driver.put('t/latest', text('lower'))
        expect([await read('t/Latest'), await read('t/latest')]).toEqual(['upper', 'lower'])
      })

      test.each([
        '',
        '/',
        '/etc/passwd',
        'a//b',
        'a/',
        '.',
        '..',
        '../outside',
        'a/../../outside',
        'a/./b',
        'a\0b',
        'a\\..\\b',
        `${longest}n`,
        'ü'.repeat(128),
      ])('such as %j are refused by every operation', async (key) => {
        const file = await finished(text('x'))
        await expect(driver.get(key)).rejects.toThrow(TypeError)
        await expect(driver.put(key, text('x'))).rejects.toThrow(TypeError)
        await expect(driver.open(key)).rejects.toThrow(TypeError)
        await expect(driver.stat(key)).rejects.toThrow(TypeError)
        await expect(driver.touch(key)).rejects.toThrow(TypeError)
        await expect(driver.adopt(key, file)).rejects.toThrow(TypeError)
        await expect(driver.remove(key)).rejects.toThrow(TypeError)
        await expect(driver.move(key, 'a')).rejects.toThrow(TypeError)
        await expect(driver.move('a', key)).rejects.toThrow(TypeError)
        expect(await isGone(file)).toBe(false)
      })
    })
  })
}
