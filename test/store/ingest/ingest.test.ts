import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { digestOf } from '../../../src/oci/digest.ts'
import type { Digest } from '../../../src/oci/digest.ts'
import { LocalIngest } from '../../../src/store/ingest/ingest.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import type { TemporaryDirectory } from '../../support/temporary-directory.ts'

const content = randomBytes(300_000)
const digest = digestOf(content)

async function readBack(ingest: LocalIngest, at: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length)
  return into.subarray(0, await ingest.read(into, at))
}

describe('LocalIngest', () => {
  let directory: TemporaryDirectory
  let adopted: number[]
  const opened: LocalIngest[] = []

  beforeEach(async () => {
    directory = await temporaryDirectory()
    adopted = []
  })
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((ingest) => ingest.close()))
    await directory.remove()
  })

  const create = async (of: Digest = digest): Promise<LocalIngest> => {
    const ingest = await LocalIngest.create({
      directory: directory.path,
      digest: of,
      adopt: async (file, size) => {
        adopted.push(size)
        await rename(file, directory.join('kept'))
      },
    })
    opened.push(ingest)
    return ingest
  }
  const files = async () => (await readdir(directory.path)).toSorted()

  test('becomes a blob when it is filled in order, verified and committed', async () => {
    const ingest = await create()
    for (let at = 0; at < content.length; at += 70_000) {
      await ingest.write(at, content.subarray(at, at + 70_000))
    }
    await ingest.verify(content.length)
    expect(await files()).not.toContain('kept')
    await ingest.commit()
    expect((await readFile(directory.join('kept'))).equals(content)).toBe(true)
    expect(await files()).toEqual(['kept'])
    expect(adopted).toEqual([content.length])
  })

  test.each(['sha256', 'sha512'] as const)('takes a %s digest', async (algorithm) => {
    const ingest = await create(digestOf(content, algorithm))
    await ingest.write(0, content)
    await ingest.verify(content.length)
  })

  test('is right for any order, overlap and grouping of writes', async () => {
    const small = randomBytes(2000)
    const wanted = digestOf(small)
    const pieces = fc.array(
      fc.tuple(fc.nat(1999), fc.integer({ min: 1, max: 700 }), fc.boolean(), fc.boolean()),
      { maxLength: 12 },
    )
    await fc.assert(
      fc.asyncProperty(pieces, async (list) => {
        const ingest = await create(wanted)
        const pending: Promise<void>[] = []
        for (const [at, length, split, wait] of list) {
          const bytes = small.subarray(at, at + length)
          const writing = ingest.write(
            at,
            split ? [bytes.subarray(0, 3), bytes.subarray(3)] : bytes,
          )
          pending.push(writing)
          if (wait) await writing
        }
        await Promise.all(pending)
        for (const { start, end } of ingest.have()) {
          expect(
            (await readBack(ingest, start, end - start)).equals(small.subarray(start, end)),
          ).toBe(true)
        }
        for (const { start, end } of ingest.have().missing(0, small.length)) {
          expect(await ingest.read(Buffer.alloc(10), start)).toBe(0)
          await ingest.write(start, small.subarray(start, end))
        }
        await ingest.verify(small.length)
        await ingest.close()
      }),
      { numRuns: 40 },
    )
  })

  test('shows only what is written, and nothing across a gap', async () => {
    const ingest = await create()
    await ingest.write(0, content.subarray(0, 100))
    await ingest.write(200, content.subarray(200, 300))
    expect([...ingest.have()]).toEqual([
      { start: 0, end: 100 },
      { start: 200, end: 300 },
    ])
    expect((await readBack(ingest, 50, 500)).length).toBe(50)
    expect((await readBack(ingest, 150, 100)).length).toBe(0)
    expect((await readBack(ingest, 250, 500)).equals(content.subarray(250, 300))).toBe(true)
  })

  test('has no bytes before their write has ended', async () => {
    const ingest = await create()
    const writing = ingest.write(0, content)
    expect(ingest.have().bytes).toBe(0)
    await writing
    expect(ingest.have().bytes).toBe(content.length)
  })

  test('keeps its bytes when others come for the same place, at the same time or later', async () => {
    const ingest = await create()
    const other = randomBytes(content.length)
    await Promise.all([
      ingest.write(50_000, content.subarray(50_000, 100_000)),
      ingest.write(0, content.subarray(0, 20_000)),
      ingest.write(10_000, other.subarray(10_000, 120_000)),
    ])
    expect([...ingest.have()]).toEqual([{ start: 0, end: 120_000 }])
    await ingest.write(0, other)
    const held = await readBack(ingest, 0, content.length)
    const expected = Buffer.from(other)
    content.copy(expected, 0, 0, 20_000)
    content.copy(expected, 50_000, 50_000, 100_000)
    expect(held.equals(expected)).toBe(true)
  })

  test('is not harmed by sources that bring the same bytes at the same time', async () => {
    const ingest = await create()
    const bring = async (step: number) => {
      for (let at = 0; at < content.length; at += step) {
        await ingest.write(at, [
          content.subarray(at, at + 10),
          content.subarray(at + 10, at + step),
        ])
      }
    }
    await Promise.all([bring(7000), bring(11_000), bring(64_000)])
    await ingest.verify(content.length)
  })

  test('refuses invalid positions', async () => {
    const ingest = await create()
    for (const at of [-1, 0.5, Number.NaN, Infinity]) {
      await expect(ingest.write(at, content)).rejects.toThrow(RangeError)
    }
    expect(ingest.have().bytes).toBe(0)
  })

  test('accepts empty writes, and more chunks than one system call takes', async () => {
    const ingest = await create()
    await ingest.write(0, [])
    await ingest.write(0, new Uint8Array())
    const chunks = Array.from({ length: 3000 }, (_, n) => content.subarray(n * 100, n * 100 + 100))
    await ingest.write(0, [new Uint8Array(), ...chunks])
    await ingest.verify(content.length)
  })

  describe('verify', () => {
    test('names the digest that the bytes have', async () => {
      const ingest = await create()
      const other = randomBytes(1000)
      await ingest.write(0, other)
      await expect(ingest.verify(1000)).rejects.toMatchObject({
        name: 'ContentError',
        reason: 'wrong-digest',
        expected: digest,
        actual: digestOf(other),
      })
      await expect(ingest.commit()).rejects.toThrow(/verified/)
      expect(adopted).toEqual([])
    })

    test.each([
      ['too little', [[0, 1000]], 300_000, '1000'],
      ['nothing', [], 300_000, '0'],
      ['too much', [[0, 300_000]], 299_999, '300000'],
      [
        'a gap',
        [
          [0, 10],
          [20, 300_000],
        ],
        300_000,
        '10',
      ],
      [
        'a gap and no known size',
        [
          [0, 10],
          [20, 300_000],
        ],
        undefined,
        '10',
      ],
    ] as const)('finds %s', async (_, parts, size, actual) => {
      const ingest = await create()
      for (const [start, end] of parts) await ingest.write(start, content.subarray(start, end))
      await expect(ingest.verify(size)).rejects.toMatchObject({ reason: 'wrong-size', actual })
    })

    test('does not need a size', async () => {
      const ingest = await create()
      await ingest.write(0, content)
      await ingest.verify()
      await ingest.commit()
      expect(adopted).toEqual([content.length])
    })

    test('knows the empty content', async () => {
      const ingest = await create(digestOf(new Uint8Array()))
      await ingest.verify(0)
      await ingest.commit()
      expect((await stat(directory.join('kept'))).size).toBe(0)
    })

    test('waits for running writes', async () => {
      const ingest = await create()
      const writing = [
        ingest.write(100_000, content.subarray(100_000)),
        ingest.write(0, content.subarray(0, 100_000)),
      ]
      await ingest.verify(content.length)
      await Promise.all(writing)
    })

    test('may be repeated after more bytes came, and after it succeeded', async () => {
      const ingest = await create()
      await ingest.write(0, content.subarray(0, 1000))
      await expect(ingest.verify(content.length)).rejects.toMatchObject({ reason: 'wrong-size' })
      await expect(ingest.verify(1000)).rejects.toMatchObject({ reason: 'wrong-digest' })
      await ingest.write(1000, content.subarray(1000))
      await Promise.all([ingest.verify(content.length), ingest.verify(content.length)])
      await ingest.verify(content.length)
    })

    test('judges what the file holds, whichever of two writes at once came last', async () => {
      for (let n = 0; n < 20; n++) {
        const ingest = await create()
        await ingest.write(200_000, content.subarray(200_000))
        await Promise.all([
          ingest.write(100_000, Buffer.alloc(100_000, n)),
          ingest.write(0, content.subarray(0, 200_000)),
        ])
        const held = await readBack(ingest, 0, content.length)
        const verified = await ingest.verify(content.length).then(
          () => true,
          () => false,
        )
        expect(verified).toBe(held.equals(content))
        await ingest.close()
      }
    })

    test('with another size waits for its turn, and so does a write', async () => {
      const ingest = await create()
      await ingest.write(0, content.subarray(0, 1000))
      const outcomes = await Promise.allSettled([
        ingest.verify(1000),
        ingest.write(1000, content.subarray(1000)),
        ingest.verify(content.length),
      ])
      expect(outcomes.map((outcome) => outcome.status)).toEqual([
        'rejected',
        'fulfilled',
        'fulfilled',
      ])
    })

    test('ends early when the ingest is closed', async () => {
      const large = Buffer.alloc(16 * 1024 * 1024, 7)
      const ingest = await create(digestOf(large))
      await ingest.write(1, large.subarray(1))
      await ingest.write(0, large.subarray(0, 1))
      const verifying = ingest.verify(large.length)
      await Promise.all([expect(verifying).rejects.toThrow(/closed/), ingest.close()])
    })

    test('finds wrong bytes although right ones come for the same place later', async () => {
      const ingest = await create()
      await ingest.write(1000, randomBytes(10))
      await ingest.write(0, content)
      await expect(ingest.verify(content.length)).rejects.toMatchObject({ reason: 'wrong-digest' })
    })

    test('lets the event loop turn while it hashes', async () => {
      const large = Buffer.alloc(24 * 1024 * 1024, 7)
      const ingest = await create(digestOf(large))
      await ingest.write(1, large.subarray(1)) // out of order: not hashed yet
      await ingest.write(0, large.subarray(0, 1))
      let turns = 0
      const timer = setInterval(() => turns++, 1)
      await ingest.verify(large.length)
      clearInterval(timer)
      expect(turns).toBeGreaterThan(5)
    })

    test('lets nothing more be written', async () => {
      const ingest = await create()
      await ingest.write(0, content)
      await ingest.verify(content.length)
      await expect(ingest.write(content.length, Buffer.from('x'))).rejects.toThrow(/complete/)
      await ingest.write(1000, content.subarray(1000, 2000)) // bytes of a late source are ignored
      expect((await readBack(ingest, 0, 10)).equals(content.subarray(0, 10))).toBe(true)
    })
  })

  describe('ended writing', () => {
    test('returns the hash of the prefix, so that its receiver can continue it', async () => {
      const ingest = await create()
      await ingest.write(100_000, content.subarray(100_000, 200_000))
      await ingest.write(250_000, content.subarray(250_000))
      const writing = ingest.write(0, content.subarray(0, 100_000))
      const { digester, at } = await ingest.endWriting()
      await writing
      expect(at).toBe(200_000)
      digester.update(content.subarray(at))
      expect(digester.digest()).toBe(digest)
    })

    test('leaves the bytes readable, and nothing else', async () => {
      const ingest = await create()
      await ingest.write(0, content.subarray(0, 1000))
      await ingest.endWriting()
      expect((await readBack(ingest, 500, 1000)).equals(content.subarray(500, 1000))).toBe(true)
      await expect(ingest.write(1000, content.subarray(1000))).rejects.toThrow(
        /writing to the ingest has ended/,
      )
      await expect(ingest.verify(1000)).rejects.toThrow(/writing to the ingest has ended/)
      await expect(ingest.endWriting()).rejects.toThrow(/writing to the ingest has ended/)
      await ingest.close()
      expect(await files()).toEqual([])
    })
  })

  test('makes its directory again where it was removed', async () => {
    await directory.remove()
    const ingest = await create()
    await ingest.write(0, content)
    await ingest.verify(content.length)
    await ingest.commit()
    expect(await files()).toEqual(['kept'])
  })

  describe('in the end', () => {
    test('needs a verify to commit, and commits once', async () => {
      const ingest = await create()
      await ingest.write(0, content)
      await expect(ingest.commit()).rejects.toThrow(/verified/)
      await ingest.verify(content.length)
      await Promise.all([ingest.commit(), ingest.commit()])
      await ingest.commit()
      expect(adopted).toHaveLength(1)
    })

    test('may be committed again when taking the file over failed', async () => {
      let broken = true
      const ingest = await LocalIngest.create({
        directory: directory.path,
        digest,
        adopt: async (file) => {
          if (broken) throw new Error('disk on fire')
          await rename(file, directory.join('kept'))
        },
      })
      opened.push(ingest)
      await ingest.write(0, content)
      await ingest.verify(content.length)
      await expect(ingest.commit()).rejects.toThrow('disk on fire')
      expect((await readBack(ingest, 0, 10)).length).toBe(10)
      broken = false
      await ingest.commit()
      expect(await files()).toEqual(['kept'])
    })

    test('can be read after a commit until it is closed', async () => {
      const ingest = await create()
      await ingest.write(0, content)
      await ingest.verify(content.length)
      await ingest.commit()
      expect((await readBack(ingest, 1000, 2000)).equals(content.subarray(1000, 3000))).toBe(true)
      await ingest.abort()
      expect(await files()).toEqual(['kept'])
      await ingest.close()
      await expect(ingest.read(Buffer.alloc(1), 0)).rejects.toThrow(/closed/)
      expect(await files()).toEqual(['kept'])
    })

    test('can be read after an abort, which leaves no file', async () => {
      const ingest = await create()
      await ingest.write(0, content)
      await ingest.checkpoint()
      await ingest.abort()
      await ingest.abort()
      expect(await files()).toEqual([])
      expect((await readBack(ingest, 1000, 2000)).equals(content.subarray(1000, 3000))).toBe(true)
      await expect(ingest.write(0, content)).rejects.toThrow(/aborted/)
      await expect(ingest.commit()).rejects.toThrow(/aborted/)
      await ingest.checkpoint()
      expect(await files()).toEqual([])
    })

    test('leaves no file when it is closed without a commit, and may be closed again', async () => {
      const ingest = await create()
      const writing = ingest.write(0, content)
      await Promise.all([ingest.close(), ingest.close()])
      await writing
      await ingest.close()
      expect(await files()).toEqual([])
      await expect(ingest.write(0, content)).rejects.toThrow(/closed/)
      await expect(ingest.verify()).rejects.toThrow(/closed/)
      await expect(ingest.commit()).rejects.toThrow(/aborted/)
    })

    test('waits for a running commit when it is closed', async () => {
      const ingest = await create()
      await ingest.write(0, content)
      await ingest.verify(content.length)
      const committing = ingest.commit()
      await ingest.close()
      await committing
      expect(await files()).toEqual(['kept'])
    })
  })

  test('keeps the part that a failed write has written, and no hash of the rest', async () => {
    const limit = 256 * 1024
    const { stdout } = await promisify(execFile)('bash', [
      '-c',
      `ulimit -f ${limit / 1024}; exec "$@"`,
      'bash',
      process.execPath,
      join(import.meta.dirname, 'full-disk.ts'),
      directory.path,
      String(limit),
    ])
    expect(JSON.parse(stdout)).toEqual({
      failure: 'EFBIG',
      count: limit,
      same: true,
      verified: true,
    })
    expect(await files()).toEqual([])
  })
})
