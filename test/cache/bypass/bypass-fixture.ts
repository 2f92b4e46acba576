// For tests of blobs that cannot be kept: disks that fill up, upstreams in memory, readers at their
// own pace.
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect } from 'vitest'
import type { Content } from '../../../src/cache/content.ts'
import type { Download } from '../../../src/cache/download/download.ts'
import type { DownloadObserver } from '../../../src/cache/download/options.ts'
import { Downloads, type DownloadsOptions } from '../../../src/cache/download/downloads.ts'
import { MemoryBudget } from '../../../src/cache/bypass/memory-budget.ts'
import type { ByteRange } from '../../../src/http/range.ts'
import type { Digest } from '../../../src/oci/digest.ts'
import { type Ingest, LocalIngest } from '../../../src/store/ingest/ingest.ts'
import { UpstreamError } from '../../../src/upstream/face/failure.ts'
import type { Source } from '../../../src/upstream/face/source.ts'

const KIB = 1024
export const MIB = 1024 * KIB
/** The most that one blob takes: the shared window, and four direct reads. */
export const MAX_BYTES = (16 + 4 * 1.25) * MIB

/** More questions than this are a loop: they are refused, so that a test fails and does not run on. */
const MOST_ASKED = 2000

const signal = new AbortController().signal

/** For tests that look at nothing it is told. */
export const SILENT: DownloadObserver = {
  downloadStarted: () => {},
  downloadEnded: () => {},
  readersChanged: () => {},
  verificationFailed: () => {},
  sourceFailed: () => {},
  storeError: () => {},
}

export function diskFull(): Error {
  return Object.assign(new Error('no space left on device'), { code: 'ENOSPC' })
}

export interface SmallDisk {
  readonly directory: string
  /** Bytes that it takes of each blob; less than 0: not even a file can be made. */
  readonly room: number
  readonly kept?: (digest: Digest) => void
}

/** Ingests on a disk that is too small. */
export function createOn({ directory, room, kept }: SmallDisk): DownloadsOptions['createIngest'] {
  return async (digest): Promise<Ingest> => {
    if (room < 0) throw diskFull()
    const adopt = async (file: string) => {
      kept?.(digest)
      await rm(file)
    }
    const ingest = await LocalIngest.create({ directory, digest, adopt })
    const write = ingest.write.bind(ingest)
    let left = room
    ingest.write = async (at, bytes) => {
      const whole = Buffer.concat(bytes instanceof Uint8Array ? [bytes] : bytes)
      const part = whole.subarray(0, left)
      left -= part.length
      if (part.length > 0) await write(at, part)
      if (part.length < whole.length) throw diskFull()
    }
    return ingest
  }
}

export function blob(size: number, seed = 1): Buffer {
  const bytes = Buffer.alloc(size)
  for (let i = 0; i + 4 <= size; i += 4096) bytes.writeUInt32LE((i * 2654435761 + seed) >>> 0, i)
  return bytes
}

export interface TestSource extends Source {
  readonly asked: ByteRange[]
  readonly sent: number
  readonly running: number
  readonly mostRunning: number
}

export interface UpstreamOptions {
  ranged?: boolean
  id?: string
  /** Before every 64 KiB. */
  delayMs?: number
  /** It says how large the blob is. */
  size?: boolean
  /** Of the nth answer: it is cut after so many bytes. */
  cutAfter?: ((nth: number) => number) | undefined
}

/** An upstream in memory; `bytes` may differ from question to question. */
export function upstream(
  bytes: (nth: number) => Buffer,
  { ranged = true, id = 'one', delayMs = 0, size = true, cutAfter }: UpstreamOptions = {},
): TestSource {
  const asked: ByteRange[] = []
  let [sent, now, most] = [0, 0, 0]
  async function* body(content: Buffer, { start, end }: ByteRange, cutAt: number) {
    now += 1
    most = Math.max(most, now)
    try {
      for (let at = start; at < end; at += 64 * KIB) {
        if (delayMs > 0) await sleep(delayMs)
        if (at >= cutAt) throw new UpstreamError('cut', 'cut', { endpoint: id })
        const chunk = content.subarray(at, Math.min(at + 64 * KIB, end))
        sent += chunk.length
        yield chunk
      }
    } finally {
      now -= 1
    }
  }
  return {
    id,
    origin: id,
    health: 'ok',
    asked,
    get sent() {
      return sent
    },
    get running() {
      return now
    },
    get mostRunning() {
      return most
    },
    fetch: async (_digest, range) => {
      const content = bytes(asked.length)
      const { start: from, end = content.length } =
        typeof range === 'number' ? { start: range } : range
      const start = ranged ? from : 0
      const to = ranged ? Math.min(end, content.length) : content.length
      const cutAt = start + (cutAfter?.(asked.length) ?? Infinity)
      asked.push({ start, end: to })
      if (asked.length > MOST_ASKED) throw new Error(`asked for more than ${MOST_ASKED} times`)
      return {
        start,
        end: size ? to : undefined,
        ranged,
        size: size ? content.length : undefined,
        grantedBy: 'anonymous',
        body: Object.assign(body(content, { start, end: to }, cutAt), { discard() {} }),
      }
    },
  }
}

export interface Reading {
  readonly content: Content
  /** Rejects with what the reader met. */
  readonly done: Promise<Buffer>
}

/** A reader that takes `pieceBytes` at a time, with a pause of `pauseMs`. */
export async function read(
  download: Download,
  { range, pauseMs = 0, pieceBytes = 256 * KIB, stopAt = Infinity }: ReadOptions = {},
): Promise<Reading> {
  await download.ready
  const content = download.read()
  content.plan(range && [range])
  const done = closing(content, readAll(content, { range, pauseMs, pieceBytes, stopAt }))
  done.catch(() => {}) // it may fail before anybody waits for it
  return { content, done }
}

async function closing(content: Content, reading: Promise<Buffer>): Promise<Buffer> {
  try {
    return await reading
  } finally {
    await content.close()
  }
}

export interface ReadOptions {
  range?: ByteRange | undefined
  pauseMs?: number
  pieceBytes?: number
  stopAt?: number
}

export async function readAll(content: Content, options: Required<ReadOptions>): Promise<Buffer> {
  const { range, pauseMs, pieceBytes, stopAt } = options
  const parts: Buffer[] = []
  let at = range?.start ?? 0
  for (;;) {
    const end = Math.min(range?.end ?? Infinity, stopAt, content.size ?? Infinity)
    if (at >= end) break
    await content.wait(at, signal)
    const into = Buffer.alloc(Math.min(pieceBytes, end - at))
    const count = await content.read(into, at)
    if (count === 0 && at === content.size) break
    parts.push(into.subarray(0, count))
    at += count
    if (pauseMs > 0) await sleep(pauseMs)
  }
  return Buffer.concat(parts)
}

export function begin(
  downloads: Downloads,
  digest: Digest,
  sources: readonly Source[],
  size?: number,
) {
  return downloads.start({ digest, registry: 'registry.test', sources, size })
}

export function expectSame(got: Buffer, wanted: Buffer): void {
  expect(got.length).toBe(wanted.length)
  expect(got.equals(wanted)).toBe(true)
}

export interface BypassScene {
  /** What its downloads reported. */
  readonly events: string[]
  /** What was kept. */
  readonly kept: Digest[]
  /** The budget of the downloads that were opened last. */
  readonly memory: () => MemoryBudget
  readonly ingestsOn: (room: number) => DownloadsOptions['createIngest']
  /** Downloads on a disk with so much room; default: not even a file can be made. */
  readonly open: (options?: Partial<DownloadsOptions> & { room?: number }) => Downloads
}

/** A directory for each test of a file, of which nothing must be left in the end. */
export function bypassScene(): BypassScene {
  let directory = ''
  const [events, kept, running]: [string[], Digest[], Downloads[]] = [[], [], []]
  const observer = observerOf(events)
  let memory = new MemoryBudget()
  const ingestsOn = (room: number) => {
    return createOn({ directory, room, kept: (digest) => kept.push(digest) })
  }
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'chandlery-'))
    for (const each of [events, kept, running]) each.length = 0
  })
  afterEach(async () => {
    for (const downloads of running) await downloads.stop()
    expect(await readdir(directory)).toEqual([])
    await rm(directory, { recursive: true, force: true })
  })
  return {
    events,
    kept,
    ingestsOn,
    memory: () => memory,
    open({ room = -1, fetch, ...rest } = {}) {
      memory = rest.memory ?? new MemoryBudget()
      const createIngest = ingestsOn(room)
      const options = { observer, memory, retryDelayMs: 1, createIngest }
      const downloads = new Downloads({ ...options, fetch: { idleMs: 30, ...fetch }, ...rest })
      running.push(downloads)
      return downloads
    },
  }
}

function observerOf(events: string[]): DownloadObserver {
  return {
    downloadStarted: () => {},
    downloadEnded: (outcome) => events.push(outcome),
    readersChanged: () => {},
    verificationFailed: (endpoint) => events.push(`wrong bytes from ${endpoint}`),
    sourceFailed: (error) => events.push(`${error.endpoint} ${error.reason}`),
    storeError: (operation, error) =>
      events.push(`${operation}: ${error instanceof Error ? error.message : String(error)}`),
  }
}
