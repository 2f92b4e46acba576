// The suite that every implementation of Content must pass.
import { setImmediate } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import type { Content } from '../../src/cache/content.ts'
import type { ByteRange } from '../../src/http/range.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { syntheticBytes } from '../support/content.ts'

const KIB = 1024
const MIB = 1024 * KIB
const signal = new AbortController().signal

/** Reads a range as the sender does: whatever is available, in pieces of this size. */
async function readRange(
  content: Content,
  { start, end }: ByteRange,
  pieceBytes: number,
): Promise<Buffer> {
  const parts: Buffer[] = []
  for (let at = start; at < end;) {
    await content.wait(at, signal)
    const available = content.available(at)
    const into = Buffer.alloc(Math.min(pieceBytes, available, end - at))
    const count = await content.read(into, at)
    parts.push(into.subarray(0, count))
    at += count
  }
  return Buffer.concat(parts)
}

/** `open` returns a content of these bytes. The suite closes it. */
export function contentSuite(name: string, open: (bytes: Buffer) => Promise<Content>): void {
  const opened: Content[] = []

  afterEach(async () => {
    for (const content of opened.splice(0)) await content.close()
  })

  async function opening(bytes: Buffer, ranges?: readonly ByteRange[]): Promise<Content> {
    const content = await open(bytes)
    opened.push(content)
    content.plan(ranges)
    return content
  }

  describe(`${name} as a content`, () => {
    const bytes = syntheticBytes(name, 0, 3 * MIB + 12_345)
    const all = { start: 0, end: bytes.length }

    test.each([0, 1, 64 * KIB, MIB, MIB + 1, bytes.length])(
      'gives all of a blob of %i bytes, and says where it ends',
      async (size) => {
        const blob = bytes.subarray(0, size)
        const content = await opening(blob)
        expect(content.digest).toBe(digestOf(blob))
        expect((await readRange(content, { start: 0, end: size }, 256 * KIB)).equals(blob)).toBe(
          true,
        )
        await content.wait(size, signal)
        expect(content.size).toBe(size)
        expect(content.available(size)).toBe(0)
        expect(await content.read(Buffer.alloc(10), size)).toBe(0)
      },
    )

    test.each([1000, 64 * KIB + 1, 8 * MIB])(
      'gives it in pieces of %i bytes',
      async (pieceBytes) => {
        const size = pieceBytes === 1000 ? 100_000 : bytes.length
        const blob = bytes.subarray(0, size)
        const content = await opening(blob)
        expect((await readRange(content, { start: 0, end: size }, pieceBytes)).equals(blob)).toBe(
          true,
        )
      },
    )

    test.each([
      ['at the start', { start: 0, end: 10 }],
      ['in the middle', { start: MIB - 5, end: 2 * MIB + 5 }],
      ['at the end', { start: bytes.length - 7, end: bytes.length }],
    ])('gives a part %s', async (_where, range) => {
      const content = await opening(bytes, [range])
      const part = await readRange(content, range, 256 * KIB)
      expect(part.equals(bytes.subarray(range.start, range.end))).toBe(true)
    })

    test('gives several parts in their order, wherever they are', async () => {
      const ranges = [
        { start: 2 * MIB, end: 2 * MIB + 100 },
        { start: 5, end: 70_000 },
        { start: 60_000, end: 80_000 },
        { start: bytes.length - 1, end: bytes.length },
      ]
      const content = await opening(bytes, ranges)
      for (const range of ranges) {
        const part = await readRange(content, range, 64 * KIB)
        expect(part.equals(bytes.subarray(range.start, range.end))).toBe(true)
      }
    })

    test('follows the last of two plans', async () => {
      const content = await opening(bytes)
      const range = { start: MIB, end: MIB + 50 }
      content.plan([range])
      content.promise()
      const part = await readRange(content, range, 100)
      expect(part.equals(bytes.subarray(range.start, range.end))).toBe(true)
    })

    test('gives some of what is available, and never more than there is room for', async () => {
      const content = await opening(bytes)
      await content.wait(0, signal)
      expect(content.available(0)).toBeGreaterThan(0)
      expect(await content.read(Buffer.alloc(0), 0)).toBe(0)
      const into = Buffer.alloc(10, 'x')
      const count = await content.read(into.subarray(2, 5), 0)
      expect(count).toBeGreaterThan(0)
      expect(into.subarray(0, 2).toString() + into.subarray(5).toString()).toBe('xxxxxxx')
      expect(into.subarray(2, 2 + count).equals(bytes.subarray(0, count))).toBe(true)
    })

    test('has nothing past its end', async () => {
      const content = await opening(bytes)
      await content.wait(0, signal)
      expect(content.available(bytes.length + 5)).toBe(0)
    })

    test('does not wait for a client that is gone', async () => {
      const content = await opening(bytes)
      const reason = new Error('gone')
      await expect(content.wait(0, AbortSignal.abort(reason))).rejects.toBe(reason)
      expect((await readRange(content, all, MIB)).equals(bytes)).toBe(true)
    })

    test('is read by two clients at once, of which one leaves', async () => {
      const [stays, leaves] = [await opening(bytes), await opening(bytes)]
      const staying = readRange(stays, all, 100_000)
      await leaves.wait(0, signal)
      await leaves.read(Buffer.alloc(1000), 0)
      await setImmediate()
      await leaves.close()
      expect((await staying).equals(bytes)).toBe(true)
    })

    test('may be closed twice', async () => {
      const content = await opening(bytes)
      await content.close()
      await content.close()
    })
  })
}
