import { expect, test } from 'vitest'
import { writeBody, TooLong, WriteFailed } from '../../../src/cache/fetch/write-body.ts'
import type { Ingest } from '../../../src/store/ingest/ingest.ts'

/** Nothing moves the end, and nobody counts. */
const UNBOUNDED = { end: () => Infinity, onChunk: () => {} }
const CHUNK = Buffer.alloc(1000, 'c')

async function* threeChunks() {
  yield CHUNK
  yield CHUNK
  yield CHUNK
}

async function* brokenBody() {
  yield CHUNK
  yield CHUNK
  throw new Error('cut')
}

/** An ingest that notes what is written, each time after `writing` has resolved. */
function recording(writing: () => Promise<void>): { ingest: Ingest; bytes: () => number } {
  let bytes = 0
  const write = async (_at: number, chunks: Uint8Array | readonly Uint8Array[]) => {
    await writing()
    for (const chunk of chunks instanceof Uint8Array ? [chunks] : chunks) bytes += chunk.length
  }
  return { ingest: { write } as unknown as Ingest, bytes: () => bytes }
}

test('a chunk that arrives in the moment in which a write ends is written too', async () => {
  for (let turns = 0; turns < 12; turns++) {
    const ended = Promise.withResolvers<void>()
    const { ingest, bytes } = recording(() => ended.promise)
    async function* body() {
      yield CHUNK
      setImmediate(() => ended.resolve())
      await ended.promise
      for (let turn = 0; turn < turns; turn++) await Promise.resolve()
      yield CHUNK
    }
    await writeBody({
      into: ingest,
      body: body(),
      from: 0,
      at: 0,
      limit: () => Infinity,
      ...UNBOUNDED,
      written: () => {},
    })
    expect(bytes(), `${turns} turns`).toBe(2 * CHUNK.length)
  }
})

test('what came before the body broke is written, and the reason is thrown', async () => {
  const { ingest, bytes } = recording(() => Promise.resolve())
  const pouring = writeBody({
    into: ingest,
    body: brokenBody(),
    from: 0,
    at: 500,
    limit: () => 5000,
    ...UNBOUNDED,
    written: () => {},
  })
  await expect(pouring).rejects.toThrow('cut')
  expect(bytes()).toBe(1500)
})

test('a body that is too long, or a disk that fails, ends the writing and discards the body', async () => {
  let left = 0
  async function* endless() {
    try {
      for (;;) yield CHUNK
    } finally {
      left += 1
    }
  }
  const { ingest } = recording(() => Promise.resolve())
  const common = { from: 0, at: 0, ...UNBOUNDED, written: () => {} }
  const long = writeBody({ ...common, into: ingest, body: endless(), limit: () => 5500 })
  await expect(long).rejects.toBeInstanceOf(TooLong)
  const full = recording(() => Promise.reject(new Error('full')))
  const failed = writeBody({ ...common, into: full.ingest, body: endless(), limit: () => Infinity })
  await expect(failed).rejects.toBeInstanceOf(WriteFailed)
  expect(left).toBe(2)
})

function bug(): never {
  throw new TypeError('a bug')
}

test('an exception in the callback for a written part is not a failed write', async () => {
  const { ingest } = recording(() => Promise.resolve())
  const common = { from: 0, at: 0, limit: () => Infinity, ...UNBOUNDED, written: bug }
  const writing = writeBody({ ...common, into: ingest, body: threeChunks() })
  await expect(writing).rejects.toThrow(TypeError)
})

test('an end that moves in the middle of a chunk loses none of its bytes', async () => {
  const written: [number, number][] = []
  const write = async (at: number, chunks: readonly Uint8Array[]) => {
    written.push([at, chunks.reduce((sum, chunk) => sum + chunk.length, 0)])
  }
  let end = 1500
  let taken = 0
  await writeBody({
    into: { write },
    body: threeChunks(),
    from: 0,
    at: 0,
    limit: () => Infinity,
    end: () => end,
    // At its end it finds that nobody has what follows.
    onChunk: (bytes) => {
      taken += bytes
      if (taken === end) end = 2500
    },
    written: () => {},
  })
  expect(written.reduce((sum, [, length]) => sum + length, 0)).toBe(2500)
})
