// A blob of which nobody knows how long it is, from an upstream that never ends it.
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Downloads } from '../../../src/cache/download/downloads.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import type { Source } from '../../../src/upstream/face/source.ts'
import { begin, createOn, MIB, read } from '../bypass/bypass-fixture.ts'

const FREE = 48 * MIB
/** Looked at so often. */
const STEP = 8 * MIB
const CHUNK = Buffer.alloc(64 * 1024)

let directory: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'chandlery-'))
})
afterEach(() => rm(directory, { recursive: true, force: true }))

/** Sends on and on, and says nothing of a length. */
function endless() {
  const state = { sent: 0 }
  async function* body() {
    for (;;) {
      state.sent += CHUNK.length
      yield CHUNK
      await setImmediate()
    }
  }
  const source: Source = {
    id: 'endless',
    origin: 'endless',
    health: 'ok',
    fetch: async () => ({
      start: 0,
      end: undefined,
      size: undefined,
      ranged: false,
      grantedBy: 'anonymous',
      body: Object.assign(body(), { discard() {} }),
    }),
  }
  return { source, state }
}

test('a blob without an end takes half of the free space at most, then only what is read, and ends when its readers leave', async () => {
  const events: string[] = []
  let written = 0
  const createIngest: ReturnType<typeof createOn> = async (digest) => {
    const ingest = await createOn({ directory, room: Infinity })(digest)
    const write = ingest.write.bind(ingest)
    ingest.write = async (at, bytes) => {
      await write(at, bytes)
      written += Buffer.concat(bytes instanceof Uint8Array ? [bytes] : bytes).length
    }
    return ingest
  }
  const downloads = new Downloads({
    observer: {
      downloadStarted: () => {},
      downloadEnded: (outcome) => events.push(outcome),
      readersChanged: () => {},
      verificationFailed: () => {},
      sourceFailed: () => {},
      storeError: (operation, error) => events.push(`${operation} ${String(error)}`),
    },
    createIngest,
    fetch: { idleMs: 30 },
    hasRoom: async (bytes) => bytes <= FREE - written,
  })
  const { source, state } = endless()
  const download = begin(downloads, digestOf(Buffer.from('x')), [source])
  const { done } = await read(download, { stopAt: 100 * MIB, pieceBytes: 4 * MIB })
  expect((await done).length).toBe(100 * MIB)
  await download.ended
  expect(written).toBeGreaterThan(STEP)
  // The room is looked at when a batch has been written: up to 1 MiB more than a step.
  expect(written).toBeLessThanOrEqual(FREE / 2 + STEP + MIB)
  expect(state.sent).toBeLessThan(150 * MIB)
  expect(events).toEqual([expect.stringMatching(/^fit .*no room for/), 'not-kept'])
  expect(await readdir(directory)).toEqual([])
  await downloads.stop()
})
