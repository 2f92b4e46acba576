// What is asked for again and again without any progress ends, with an error that says so.
import { describe, expect, test } from 'vitest'
import { Downloads } from '../../../src/cache/download/downloads.ts'
import { MAX_VAIN_REQUESTS, VainRequests } from '../../../src/cache/fetch/stragglers.ts'
import { digestOf } from '../../../src/oci/digest.ts'
import type { Source } from '../../../src/upstream/face/source.ts'
import { temporaryDirectory } from '../../support/temporary-directory.ts'
import {
  begin,
  blob,
  createOn,
  MIB,
  read,
  SILENT,
  type TestSource,
  upstream,
} from '../bypass/bypass-fixture.ts'

function lastOf(tries: VainRequests, start: number, gained: number): number | undefined {
  const all = Array.from({ length: 1000 }, (_, index) => index + 1)
  return all.find(() => tries.isLast(start, gained))
}

describe('attempts', () => {
  test('for the same byte are limited in number, and counted again after that', () => {
    const tries = new VainRequests()
    expect(lastOf(tries, 5, 100)).toBe(MAX_VAIN_REQUESTS)
    expect(lastOf(tries, 5, 100)).toBe(MAX_VAIN_REQUESTS)
  })

  test('for one byte do not count as attempts for another', () => {
    const tries = new VainRequests()
    for (let start = 0; start < 10 * MAX_VAIN_REQUESTS; start++)
      expect(tries.isLast(start, 7)).toBe(false)
  })

  test('are counted again when anything was gained, and when somebody else wants something', () => {
    const tries = new VainRequests()
    for (let gained = 0; gained < 10 * MAX_VAIN_REQUESTS; gained++) {
      expect(tries.isLast(5, gained)).toBe(false)
    }
    for (let each = 0; each < 10 * MAX_VAIN_REQUESTS; each++) {
      tries.forget()
      expect(tries.isLast(5, 1)).toBe(false)
    }
  })
})

const bytes = blob(10 * MIB)

function firstOnly(nth: number): number {
  return nth === 0 ? 3 * MIB + 100_000 : Infinity
}

/**
 * The first answer breaks in the middle; from then on each begins with the MiB before what was asked
 * for, and nobody can tell how much it is a part of. No answer is a failure.
 */
function aligning(one: TestSource): Source {
  return {
    id: one.id,
    origin: one.origin,
    health: one.health,
    fetch: async (digest, range, signal) => {
      const { start = range as number } = range as { start?: number }
      const aligned = Math.floor(start / MIB) * MIB
      const isFirst = one.asked.length === 0
      const response = await one.fetch(digest, isFirst ? range : { start: aligned }, signal)
      return { ...response, ranged: isFirst }
    },
  }
}

async function play(room: number, sources: readonly Source[]) {
  const directory = await temporaryDirectory()
  const failures: string[] = []
  const downloads = new Downloads({
    observer: { ...SILENT, sourceFailed: (error) => failures.push(error.message) },
    retryDelayMs: 1,
    createIngest: createOn({ directory: directory.path, room }),
  })
  const { done } = await read(begin(downloads, digestOf(bytes), sources, bytes.length))
  const end = async () => {
    await downloads.stop()
    await directory.remove()
  }
  return { done, failures, [Symbol.asyncDispose]: end }
}

test('give up a source that sends nothing useful, and name it', async () => {
  const one = upstream(() => bytes, { cutAfter: firstOnly })
  await using played = await play(Infinity, [aligning(one)])
  await expect(played.done).rejects.toThrow()
  const what = `one was asked ${MAX_VAIN_REQUESTS} times for what begins at byte`
  expect(played.failures.at(-1)).toContain(what)
  expect(one.asked.length).toBeLessThan(MAX_VAIN_REQUESTS + 8)
})

test('a response that begins too early is useful where a blob is read in order', async () => {
  const one = upstream(() => bytes, { cutAfter: firstOnly })
  await using played = await play(-1, [aligning(one)])
  expect((await played.done).equals(bytes)).toBe(true)
  expect(one.asked.length).toBe(2)
})
