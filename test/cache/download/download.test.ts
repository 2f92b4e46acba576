import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Content } from '../../../src/cache/content.ts'
import type { Download } from '../../../src/cache/download/download.ts'
import type { DownloadObserver } from '../../../src/cache/download/options.ts'
import { Downloads } from '../../../src/cache/download/downloads.ts'
import { type Digest, digestOf } from '../../../src/oci/digest.ts'
import { LocalIngest } from '../../../src/store/ingest/ingest.ts'
import { Partials } from '../../../src/store/ingest/partials.ts'
import { UpstreamError } from '../../../src/upstream/face/failure.ts'
import type { BlobRange, Source } from '../../../src/upstream/face/source.ts'

const KIB = 1024
const MIB = 1024 * KIB
const signal = new AbortController().signal

let directory: string
let adopted: Digest[]
let events: string[]
let downloads: Downloads

const observer: DownloadObserver = {
  downloadStarted: () => events.push('started'),
  downloadEnded: (outcome) => events.push(outcome),
  readersChanged: () => {},
  verificationFailed: (endpoint) => events.push(`wrong bytes from ${endpoint}`),
  sourceFailed: (error) => events.push(`${error.endpoint} ${error.reason}`),
  storeError: (operation, error) => events.push(`store ${operation} ${String(error)}`),
  unexpectedError: (operation, error) => events.push(`fault in ${operation}: ${String(error)}`),
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'chandlery-'))
  adopted = []
  events = []
  downloads = new Downloads({
    observer,
    retryDelayMs: 1,
    createIngest: (digest) =>
      LocalIngest.create({
        directory,
        digest,
        adopt: async (file) => {
          adopted.push(digest)
          await rm(file)
        },
      }),
  })
})

afterEach(async () => {
  await downloads.stop()
  await rm(directory, { recursive: true, force: true })
})

function wanted(bytes: Buffer) {
  return { digest: digestOf(bytes), registry: 'registry.test', size: undefined }
}

function begin(digest: Digest, sources: readonly Source[], size: number | undefined): Download {
  return downloads.start({ digest, registry: 'registry.test', sources, size })
}

/** A body without its first `length` bytes. */
async function* after(body: AsyncIterable<Uint8Array>, length: number): AsyncGenerator<Uint8Array> {
  let left = length
  for await (const chunk of body) {
    if (chunk.length > left) yield chunk.subarray(left)
    left = Math.max(0, left - chunk.length)
  }
}

/** The first `length` bytes of a body. */
async function* upTo(body: AsyncIterable<Uint8Array>, length: number): AsyncGenerator<Uint8Array> {
  let left = length
  for await (const chunk of body) {
    yield chunk.subarray(0, left)
    left -= chunk.length
    if (left <= 0) return
  }
}

/** A source of ours: `script` yields the body from `start`, and may wait, break or lie on the way. */
function source(
  id: string,
  size: number | undefined,
  script: (start: number) => AsyncIterable<Uint8Array>,
): Source & { asked: number[] } {
  const asked: number[] = []
  return {
    id,
    origin: id,
    health: 'ok',
    asked,
    fetch: async (_digest, range) => {
      const { start, end } = rangeOf(range)
      asked.push(start)
      // A script that takes no start begins at 0.
      const from = script.length === 0 ? after(script(start), start) : script(start)
      const bytes = end === undefined ? from : upTo(from, end - start)
      const body = Object.assign(bytes, { discard() {} })
      return { start, end: end ?? size, ranged: true, size, body, grantedBy: 'anonymous' }
    },
  }
}

function rangeOf(range: BlobRange | number): BlobRange {
  return typeof range === 'number' ? { start: range } : range
}

function refusing(id: string, reason: 'not-found' | 'server-error'): Source {
  return {
    id,
    origin: id,
    health: 'ok',
    fetch: async () => {
      throw new UpstreamError(reason, `${id} refuses`, { endpoint: id })
    },
  }
}

function blob(size: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(size)
  for (let i = 0; i < size; i += 4096) bytes.writeUInt32LE((i * 2654435761 + seed) >>> 0, i)
  return bytes
}

async function* inChunks(bytes: Uint8Array, chunk = 64 * KIB): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunk) yield bytes.subarray(at, at + chunk)
}

async function readFrom(content: Content, at = 0, to = Infinity): Promise<Buffer> {
  const parts: Buffer[] = []
  for (;;) {
    const into = Buffer.alloc(Math.min(64 * KIB, to - at))
    if (into.length === 0) break
    await content.wait(at, signal)
    const length = await content.read(into, at)
    if (length === 0) break
    parts.push(into.subarray(0, length))
    at += length
  }
  return Buffer.concat(parts)
}

async function reader(download: Download, from?: number) {
  await download.ready
  const content = download.read()
  content.plan(from === undefined ? undefined : [{ start: from, end: download.size ?? Infinity }])
  return content
}

describe('a download', () => {
  test('feeds readers that join at any time from one fetch, and keeps the blob', async () => {
    const bytes = blob(3 * MIB)
    const one = source('one', bytes.length, () => inChunks(bytes))
    const download = begin(digestOf(bytes), [one], undefined)
    const first = await reader(download)
    const second = await reader(begin(digestOf(bytes), [one], undefined))
    const [a, b] = await Promise.all([readFrom(first), readFrom(second)])
    expect(a.equals(bytes) && b.equals(bytes)).toBe(true)
    await download.ended
    expect(one.asked).toEqual([0])
    expect(adopted).toEqual([digestOf(bytes)])
    expect(events).toEqual(['started', 'kept'])
    const late = await reader(download)
    expect((await readFrom(late)).equals(bytes)).toBe(true)
    await Promise.all([first.close(), second.close(), late.close()])
    expect(downloads.get(digestOf(bytes))).toBeUndefined()
    expect(await readdir(directory)).toEqual([])
  })

  test('goes on when its only reader leaves', async () => {
    const bytes = blob(2 * MIB)
    const gate = Promise.withResolvers<void>()
    const one = source('one', bytes.length, async function* () {
      yield bytes.subarray(0, MIB)
      await gate.promise
      yield bytes.subarray(MIB)
    })
    const download = begin(digestOf(bytes), [one], undefined)
    const content = await reader(download, 0)
    const leaving = new AbortController()
    const waiting = content.wait(MIB + 1, leaving.signal)
    leaving.abort(new Error('left'))
    await expect(waiting).rejects.toThrow('left')
    await content.close()
    gate.resolve()
    await download.ended
    expect(events.at(-1)).toBe('kept')
  })

  test('holds back the last 64 KiB of a whole body until the digest is right', async () => {
    const bytes = blob(2 * MIB)
    const gate = Promise.withResolvers<void>()
    const one = source('one', bytes.length, async function* () {
      yield bytes.subarray(0, bytes.length - 1)
      await gate.promise
      yield bytes.subarray(bytes.length - 1)
    })
    const content = await reader(begin(digestOf(bytes), [one], undefined))
    const early = await readFrom(content, 0, bytes.length - 64 * KIB)
    expect(early.length).toBe(bytes.length - 64 * KIB)
    expect(content.available(early.length)).toBe(0)
    gate.resolve()
    expect((await readFrom(content, early.length)).length).toBe(64 * KIB)
    await content.close()
  })

  test('sends nothing of a body up to 1 MiB before it is verified, but a part as it arrives', async () => {
    const bytes = blob(MIB)
    const gate = Promise.withResolvers<void>()
    const one = source('one', bytes.length, async function* () {
      yield bytes.subarray(0, bytes.length - 1)
      await gate.promise
      yield bytes.subarray(bytes.length - 1)
    })
    const download = begin(digestOf(bytes), [one], undefined)
    const whole = await reader(download)
    const part = await reader(download, 5)
    expect((await readFrom(part, 5, 1000)).equals(bytes.subarray(5, 1000))).toBe(true)
    expect(whole.available(0)).toBe(0)
    gate.resolve()
    expect((await readFrom(whole)).equals(bytes)).toBe(true)
    await Promise.all([whole.close(), part.close()])
  })

  test('asks a source that was cut for the rest, from the byte where it broke', async () => {
    const bytes = blob(4 * MIB)
    const one = source('one', bytes.length, async function* (start) {
      yield* inChunks(bytes.subarray(start, start + 1_500_000))
      if (start + 1_500_000 < bytes.length)
        throw new UpstreamError('cut', 'cut', { endpoint: 'one' })
    })
    const content = await reader(begin(digestOf(bytes), [one], undefined))
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    expect(one.asked).toEqual([0, 1_500_000, 3_000_000])
    await content.close()
  })

  test('skips what it has when the source ignores Range', async () => {
    const bytes = blob(3 * MIB)
    let cut = false
    const one: Source = {
      id: 'one',
      origin: 'one',
      health: 'ok',
      fetch: async () => ({
        start: 0,
        end: bytes.length,
        ranged: false,
        size: bytes.length,
        grantedBy: 'anonymous',
        body: Object.assign(
          (async function* () {
            if (cut) return yield* inChunks(bytes, 100_000)
            cut = true
            yield bytes.subarray(0, 1_234_567)
            throw new UpstreamError('reset', 'reset', { endpoint: 'one' })
          })(),
          { discard() {} },
        ),
      }),
    }
    const content = await reader(begin(digestOf(bytes), [one], undefined))
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    await content.close()
  })

  test('gives up a source that breaks again and again without progress', async () => {
    const bytes = blob(3 * MIB)
    const one = source('one', bytes.length, async function* (start) {
      if (start === 0) yield bytes.subarray(0, 10)
      throw new UpstreamError('cut', 'cut', { endpoint: 'one' })
    })
    const download = begin(digestOf(bytes), [one], undefined)
    const content = await reader(download, 0)
    expect((await readFrom(content, 0, 10)).length).toBe(10)
    await expect(content.wait(10, signal)).rejects.toMatchObject({ reason: 'cut' })
    expect(one.asked.length).toBe(5)
    await content.close()
    expect(await readdir(directory)).toEqual([])
  })

  test('turns to the next source when one refuses, and reports the least final failure when all do', async () => {
    const bytes = blob(MIB)
    const good = source('good', bytes.length, () => inChunks(bytes))
    const served = begin(digestOf(bytes), [refusing('a', 'not-found'), good], undefined)
    const content = await reader(served)
    expect((await readFrom(content)).length).toBe(MIB)
    await content.close()
    const refused = begin(
      digestOf(blob(5)),
      [refusing('a', 'server-error'), refusing('b', 'not-found')],
      undefined,
    )
    await expect(refused.opened).rejects.toMatchObject({ reason: 'server-error' })
  })

  test('asks other sources before one that reports another size than the manifest, and blames it', async () => {
    const bytes = blob(2 * MIB)
    const odd = source('odd', 17, () => inChunks(bytes))
    const good = source('good', bytes.length, () => inChunks(bytes))
    const content = await reader(begin(digestOf(bytes), [odd, good], bytes.length))
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    expect(content.size).toBe(bytes.length)
    expect(events).toContain('odd wrong-size')
    expect(odd.asked).toEqual([0])
    await content.close()
  })

  test('believes sources that agree against the manifest, once the digest is right, and blames none', async () => {
    const bytes = blob(2 * MIB)
    const one = source('one', bytes.length, () => inChunks(bytes))
    const two = source('two', bytes.length, () => inChunks(bytes))
    const download = begin(digestOf(bytes), [one, two], 17)
    const content = await reader(download)
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    await content.close()
    await download.ended
    expect(events).toEqual(['started', 'kept'])
    expect([...one.asked, ...two.asked]).toEqual([0, 0])
  })

  test('gives a reader whose manifest the only source contradicts nothing before the digest is right', async () => {
    const bytes = blob(2 * MIB)
    const gate = Promise.withResolvers<void>()
    const one = source('one', bytes.length, async function* () {
      yield bytes.subarray(0, bytes.length - 1)
      await gate.promise
      yield bytes.subarray(bytes.length - 1)
    })
    const download = begin(digestOf(bytes), [one], bytes.length + 1)
    const misled = await download.reader(bytes.length + 1)
    const told = await download.reader(bytes.length)
    for (const content of [misled, told]) content.plan([{ start: 0, end: MIB }])
    expect((await readFrom(told, 0, MIB)).equals(bytes.subarray(0, MIB))).toBe(true)
    expect([misled.available(0), misled.size]).toEqual([0, bytes.length])
    gate.resolve()
    await download.ended
    expect((await readFrom(misled, 0, MIB)).equals(bytes.subarray(0, MIB))).toBe(true)
    await Promise.all([misled.close(), told.close()])
  })

  test('asks another source after wrong bytes of the claimed size that came without one, and names the wrong source', async () => {
    const bytes = blob(2 * MIB)
    const wrong = Buffer.from(bytes)
    wrong[MIB]! ^= 1
    const liar = source('liar', undefined, () => inChunks(wrong))
    const good = source('good', bytes.length, () => inChunks(bytes))
    const download = begin(digestOf(bytes), [liar, good], bytes.length)
    const content = await reader(download)
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    await content.close()
    await download.ended
    expect(events.filter((event) => event.includes('liar'))).toEqual(['wrong bytes from liar'])
    expect([liar.asked, good.asked]).toEqual([[0], [0]])
  })

  test('takes a body of unknown size, an empty one and a sha512 digest', async () => {
    const bytes = blob(2 * MIB)
    const endless = source('one', undefined, () => inChunks(bytes))
    const unknown = await reader(begin(digestOf(bytes), [endless], undefined))
    expect((await readFrom(unknown)).equals(bytes)).toBe(true)
    const nothing = Buffer.alloc(0)
    const empty = source('one', 0, () => inChunks(nothing))
    const none = await reader(begin(digestOf(nothing), [empty], 0))
    expect((await readFrom(none)).length).toBe(0)
    const long = digestOf(bytes, 'sha512')
    const other = await reader(begin(long, [endless], undefined))
    expect((await readFrom(other)).equals(bytes)).toBe(true)
    await Promise.all([unknown.close(), none.close(), other.close()])
    await expect.poll(() => adopted).toHaveLength(3)
  })
})

/** Sends these bytes without saying how many there are, and breaks; later it has the true ones, by ranges. */
function brokenOnce(first: Buffer, bytes: Buffer): Source & { asked: number[] } {
  const asked: number[] = []
  const respond = (start: number) => {
    asked.push(start)
    const isFirst = asked.length === 1
    if (start >= bytes.length && !isFirst) {
      throw new UpstreamError('protocol', 'nothing there', { endpoint: 'one', status: 416 })
    }
    const body = isFirst ? thenCut(first) : inChunks(bytes.subarray(start))
    return Object.assign(body, { discard() {} })
  }
  return {
    id: 'one',
    origin: 'one',
    health: 'ok',
    asked,
    fetch: async (_digest, range) => {
      const { start } = rangeOf(range)
      const body = respond(start)
      const size = asked.length === 1 ? undefined : bytes.length
      return { start, end: size, ranged: true, size, body, grantedBy: 'anonymous' }
    },
  }
}

async function* thenCut(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes
  throw new UpstreamError('cut', 'cut', { endpoint: 'one' })
}

describe('a download of unknown size, of which a source has nothing more', () => {
  const bytes = blob(2 * MIB)

  test('is started again where too much came', async () => {
    const one = brokenOnce(Buffer.concat([bytes, Buffer.from('more')]), bytes)
    const content = await reader(begin(digestOf(bytes), [one], undefined))
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    await content.close()
    expect(one.asked).toEqual([0, bytes.length + 4, 0])
    await expect.poll(() => adopted).toEqual([digestOf(bytes)])
    expect(events).not.toContain('wrong bytes from one')
  })

  test('is complete where all of it came', async () => {
    const one = brokenOnce(bytes, bytes)
    const content = await reader(begin(digestOf(bytes), [one], undefined))
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    expect(content.size).toBe(bytes.length)
    await content.close()
    expect(one.asked).toEqual([0, bytes.length])
    await expect.poll(() => adopted).toEqual([digestOf(bytes)])
  })

  test('fails where that happens each time it is started', async () => {
    const past = new UpstreamError('wrong-size', 'nothing there', { endpoint: 'one', status: 416 })
    const one = source('one', undefined, async function* (start) {
      if (start > 0) throw past
      yield bytes.subarray(0, MIB)
      throw new UpstreamError('cut', 'cut', { endpoint: 'one' })
    })
    const content = await reader(begin(digestOf(bytes), [one], undefined))
    await expect(readFrom(content)).rejects.toMatchObject({ endpoint: 'one' })
    await content.close()
    expect(one.asked).toEqual([0, MIB, 0, MIB])
    expect(await readdir(directory)).toEqual([])
  })
})

describe('a source', () => {
  test('whose body just ends too early is asked for the rest', async () => {
    const bytes = blob(3 * MIB)
    const one = source('one', undefined, (start) => inChunks(bytes.subarray(start, start + MIB)))
    const download = begin(digestOf(bytes), [one], bytes.length)
    const content = await reader(download)
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    expect(one.asked).toEqual([0, MIB, 2 * MIB])
    await content.close()
  })

  test('whose response is refused learns that nobody reads its body', async () => {
    const bytes = blob(2 * MIB)
    let discarded = 0
    const odd: Source = {
      ...refusing('odd', 'not-found'),
      fetch: async () => ({
        start: 0,
        end: 17,
        ranged: false,
        size: 17,
        grantedBy: 'anonymous',
        body: Object.assign(inChunks(bytes), { discard: () => void (discarded += 1) }),
      }),
    }
    const good = source('good', bytes.length, () => inChunks(bytes))
    const content = await reader(begin(digestOf(bytes), [odd, good], bytes.length))
    expect((await readFrom(content)).length).toBe(bytes.length)
    await content.close()
    expect(discarded).toBe(1)
  })

  test('that is rate-limited for a moment is waited for once, and not when it is for longer', async () => {
    const bytes = blob(2 * MIB)
    const limits = [30, 40]
    const good = source('one', bytes.length, () => inChunks(bytes))
    const one: Source & { asked: number[] } = {
      ...good,
      fetch: async (...parameters) => {
        const retryAfterMs = limits.shift()
        if (retryAfterMs === undefined) return await good.fetch(...parameters)
        throw new UpstreamError('rate-limited', 'slow down', { endpoint: 'one', retryAfterMs })
      },
    }
    const twice = begin(digestOf(bytes), [one], undefined)
    // The first limit is over: the second one says how long to wait.
    await expect(twice.opened).rejects.toMatchObject({ kind: 'rate-limited', retryAfterMs: 40 })
    limits.push(30)
    const startedAt = performance.now()
    await begin(digestOf(bytes), [one], undefined).opened
    expect(performance.now() - startedAt).toBeGreaterThan(29)
    limits.push(60_000)
    const long = begin(digestOf(blob(7)), [one], undefined)
    await expect(long.opened).rejects.toMatchObject({ retryAfterMs: 60_000 })
  })
})

function noDescriptor(): Error {
  return Object.assign(new Error('connect EMFILE'), { code: 'EMFILE' })
}

async function* slowly(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of body) {
    await sleep(1)
    yield chunk
  }
}

/** A source whose requests, by number from 0, fail with what `fault` makes for them. */
function faulty(bytes: Buffer, fault: (asked: number) => Error | undefined) {
  const good = source('one', bytes.length, (start) => slowly(inChunks(bytes.subarray(start))))
  let asked = 0
  const fetch: Source['fetch'] = async (...parameters) => {
    const error = fault(asked++)
    await sleep(20) // far enough for several connections
    if (error !== undefined) throw error
    return await good.fetch(...parameters)
  }
  return { ...good, fetch, requests: () => asked }
}

describe('an error that no source explains', () => {
  test('ends the download at once, asks no other source and blames none', async () => {
    const bytes = blob(2 * MIB)
    const bug = new TypeError('a bug')
    const one = faulty(bytes, () => bug)
    const other = source('other', bytes.length, () => inChunks(bytes))
    const download = begin(digestOf(bytes), [one, other], undefined)
    await expect(download.opened).rejects.toBe(bug)
    await download.ended
    expect(one.requests()).toBe(1)
    expect(other.asked).toEqual([])
    expect(events).toEqual(['started', 'fault in download: TypeError: a bug', 'failed'])
  })

  test('ends the download in the middle of a body, and its readers learn of it', async () => {
    const bytes = blob(2 * MIB)
    const bug = new TypeError('a bug')
    const one = source('one', bytes.length, async function* body() {
      yield* inChunks(bytes.subarray(0, MIB))
      throw bug
    })
    const other = source('other', bytes.length, () => inChunks(bytes))
    const content = await reader(begin(digestOf(bytes), [one, other], bytes.length))
    await expect(readFrom(content)).rejects.toBe(bug)
    await content.close()
    expect(other.asked).toEqual([])
    expect(events).toEqual(['started', 'fault in download: TypeError: a bug', 'failed'])
  })

  test('for want of a descriptor leaves the running requests to bring all of the blob', async () => {
    const bytes = blob(20 * MIB)
    const one = faulty(bytes, (asked) => (asked === 0 ? undefined : noDescriptor()))
    const download = begin(digestOf(bytes), [one], bytes.length)
    const content = await reader(download)
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    await content.close()
    await download.ended
    expect(one.requests()).toBeGreaterThan(1)
    expect(one.requests()).toBeLessThan(10)
    expect(events).toEqual(['started', 'kept'])
  })

  test('for want of a descriptor is tried again a moment later', async () => {
    const bytes = blob(2 * MIB)
    const one = faulty(bytes, (asked) => (asked < 2 ? noDescriptor() : undefined))
    const download = begin(digestOf(bytes), [one], bytes.length)
    const content = await reader(download)
    expect((await readFrom(content)).equals(bytes)).toBe(true)
    await content.close()
    await download.ended
    expect(events).toEqual(['started', 'kept'])
  })

  test('for want of a descriptor is what readers get where none becomes free', async () => {
    const bytes = blob(2 * MIB)
    const one = faulty(bytes, noDescriptor)
    const download = begin(digestOf(bytes), [one], undefined)
    await expect(download.opened).rejects.toMatchObject({ code: 'EMFILE' })
    await download.ended
    expect(one.requests()).toBe(4)
    expect(events).toEqual(['started', 'fault in download: Error: connect EMFILE', 'failed'])
  })
})

describe('a local file that fails', () => {
  // One that cannot be written costs the entry only: passing.test.ts.
  test('when it is read again leads to a 503', async () => {
    const bytes = blob(2 * MIB)
    const failing = new Downloads({
      observer,
      fetch: { idleMs: 20 },
      createIngest: async (digest) => {
        const ingest = await LocalIngest.create({ directory, digest, adopt: async () => {} })
        ingest.verify = () => Promise.reject(new Error('the disk is full'))
        return ingest
      },
    })
    const one = source('one', bytes.length, () => inChunks(bytes))
    const content = await reader(failing.start({ ...wanted(bytes), sources: [one] }))
    await expect(readFrom(content)).rejects.toMatchObject({ code: 'UNAVAILABLE', status: 503 })
    await content.close()
    expect(events.some((event) => event.startsWith('store write'))).toBe(true)
    await expect.poll(() => readdir(directory)).toEqual([])
  })
})

describe('a stopped downloads registry', () => {
  test('has closed its files, also those of a download that failed while it was read', async () => {
    const bytes = blob(3 * MIB)
    const partials = new Partials(directory, () => {})
    const stopped = new Downloads({
      observer,
      retryDelayMs: 1,
      createIngest: (digest) => partials.open(digest, async () => {}),
    })
    const one = source('one', bytes.length, async function* (start) {
      if (start === 0) yield bytes.subarray(0, 2 * MIB)
      throw new UpstreamError('cut', 'cut', { endpoint: 'one' })
    })
    const download = stopped.start({ ...wanted(bytes), sources: [one] })
    const lingering = await reader(download)
    await download.ended
    await stopped.stop()
    const left = await readdir(directory)
    expect(left.map((name) => name.replace(/\.[0-9a-f]+/, ''))).toEqual([
      `sha256-${digestOf(bytes).slice(7)}.part`,
      `sha256-${digestOf(bytes).slice(7)}.part.json`,
    ])
    // Another server has the directory by now.
    for (const name of left) await rm(join(directory, name))
    await lingering.close()
    expect(await readdir(directory)).toEqual([])
    expect(events.filter((event) => event.startsWith('store'))).toEqual([])
  })
})

describe('a download that is about to end', () => {
  test('is not joined while its file is closing, and its corrupt bytes are not forgotten', async () => {
    const bytes = blob(2 * MIB)
    const wrong = Buffer.from(bytes).fill(1, 0, 10)
    const closing = Promise.withResolvers<void>()
    const slow = new Downloads({
      observer,
      createIngest: async (digest) => {
        const ingest = await LocalIngest.create({ directory, digest, adopt: async () => {} })
        const close = ingest.close.bind(ingest)
        ingest.close = async () => {
          await closing.promise
          await close()
        }
        return ingest
      },
    })
    const liar = source('liar', wrong.length, () => inChunks(wrong))
    const first = slow.start({ ...wanted(bytes), sources: [liar] })
    await expect.poll(() => first.failure).toMatchObject({ kind: 'corrupt' })
    expect(slow.get(digestOf(bytes))).toBeUndefined()
    const second = slow.start({ ...wanted(bytes), sources: [liar] })
    expect(second).not.toBe(first)
    expect(second.suspect).toBe(true)
    const good = source('good', 5, () => inChunks(Buffer.from('right')))
    const third = slow.start({ ...wanted(Buffer.from('right')), sources: [good] })
    await expect.poll(() => events.includes('kept')).toBe(true)
    expect(slow.start({ ...wanted(Buffer.from('right')), sources: [good] })).not.toBe(third)
    closing.resolve()
    await slow.stop()
  })
})

describe('bytes that are not what the digest names', () => {
  const size = 3 * MIB
  const bytes = blob(size)
  const wrong = Buffer.from(bytes)
  wrong[2 * MIB] = 0xff

  test('are never kept or sent whole, and their source is named', async () => {
    const liar = source('liar', size, () => inChunks(wrong))
    const download = begin(digestOf(bytes), [liar], undefined)
    const content = await reader(download)
    await expect(readFrom(content)).rejects.toMatchObject({ kind: 'corrupt' })
    expect(content.available(0)).toBe(0)
    await content.close()
    expect(adopted).toEqual([])
    expect(events).toContain('wrong bytes from liar')
    expect(liar.asked).toEqual([0, 0])
    expect(await readdir(directory)).toEqual([])
  })

  test('cut only the readers that were sent them; the others go on from the good file', async () => {
    const gate = Promise.withResolvers<void>()
    const liar = source('liar', size, async function* () {
      yield wrong.subarray(0, size - 10)
      await gate.promise
      yield wrong.subarray(size - 10)
    })
    const good = source('good', size, () => inChunks(bytes))
    const download = begin(digestOf(bytes), [liar, good], undefined)
    const ahead = await reader(download)
    const behind = await reader(download)
    const untouched = await reader(download)
    await readFrom(ahead, 0, 2 * MIB + 1)
    const start = await readFrom(behind, 0, 2 * MIB)
    gate.resolve()
    await expect(readFrom(ahead, 2 * MIB + 1)).rejects.toThrow('corrupt')
    const rest = await readFrom(behind, 2 * MIB)
    expect(Buffer.concat([start, rest]).equals(bytes)).toBe(true)
    expect((await readFrom(untouched)).equals(bytes)).toBe(true)
    await Promise.all([ahead.close(), behind.close(), untouched.close(), download.ended])
    expect(adopted).toEqual([digestOf(bytes)])
  })

  test('make every later range of that digest wait for verification, so that nobody resumes into them', async () => {
    const liar = source('liar', size, () => inChunks(wrong))
    const first = begin(digestOf(bytes), [liar], undefined)
    await first.ended
    const again = await reader(begin(digestOf(bytes), [liar], undefined), size - 64 * KIB)
    await expect(readFrom(again, size - 64 * KIB)).rejects.toMatchObject({ kind: 'corrupt' })
    await again.close()
    const good = source('good', size, () => inChunks(bytes))
    const last = await reader(begin(digestOf(bytes), [good], undefined), size - 64 * KIB)
    const tail = await readFrom(last, size - 64 * KIB)
    expect(tail.equals(bytes.subarray(size - 64 * KIB))).toBe(true)
    await last.close()
  })
})
