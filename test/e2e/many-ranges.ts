// One GET with 1,024 ranges, as podman sends them for zstd:chunked layers: the answer has to be a
// multipart of exactly these parts, whether nothing, some or all of the blob is there.
import type { TestContent } from '../support/content.ts'
import { contentBytes, syntheticContent } from '../support/content.ts'
import { rawRequest } from '../support/raw-client.ts'
import type { Chandlery } from './chandlery.ts'
import type { Report } from './report.ts'
import type { World } from './world.ts'

const MIB = 1024 * 1024
const SIZE = 24 * MIB
const RANGES = 1024
/** What has arrived when the ranges are asked for; the rest follows at some 16 MiB/s. */
const ARRIVED = 4 * MIB
const DRIP = { bytes: 64 * 1024, everyMs: 4 }

interface Range {
  readonly start: number
  /** The byte after the last one. */
  readonly end: number
}

/** Asks for 1,024 ranges of a cold, an arriving and a held blob. */
export async function checkManyRanges(
  report: Report,
  chandlery: Chandlery,
  { slow }: World,
): Promise<void> {
  const add = (seed: string) => {
    const { digest } = slow.addSyntheticBlob(SIZE, seed, { repository: 'team/ranges' })
    const url = `${chandlery.url}/v2/slow.test/team/ranges/blobs/${digest}`
    return { digest, url, content: syntheticContent(SIZE, seed) }
  }
  const cold = add('ranges of a cold blob')
  await report.check('1,024 ranges of a cold blob come as exactly these parts', async () => {
    await expectParts(cold.url, cold.content)
    const bytes = slow.bytesSent(cold.digest)
    if (bytes > 1.2 * SIZE) throw new Error(`${bytes} bytes were fetched for a blob of ${SIZE}`)
  })
  const arriving = add('ranges of an arriving blob')
  await report.check('1,024 ranges of an arriving blob come as exactly these parts', async () => {
    slow.fault({ match: { method: 'GET', digest: arriving.digest }, drip: DRIP })
    using whole = await rawRequest(arriving.url)
    const front = await whole.read(ARRIVED)
    await expectParts(arriving.url, arriving.content)
    slow.clearFaults()
    const rest = await whole.body()
    const all = Buffer.concat([front, rest.bytes])
    if (!all.equals(contentBytes(arriving.content))) throw new Error('the whole blob was wrong')
  })
  await report.check('1,024 ranges of a held blob come without the registry', async () => {
    const before = slow.requests.length
    await expectParts(arriving.url, arriving.content)
    if (slow.requests.length !== before) throw new Error('the registry was asked')
  })
}

async function expectParts(url: string, content: TestContent): Promise<void> {
  const ranges = scattered(content.size)
  const specs = ranges.map(({ start, end }) => `${start}-${end - 1}`)
  using response = await rawRequest(url, { headers: { range: `bytes=${specs.join(',')}` } })
  const type = response.headers.get('content-type') ?? ''
  const boundary = /^multipart\/byteranges; *boundary="?([^"]+)"?$/i.exec(type)?.[1]
  if (response.status !== 206 || boundary === undefined) {
    throw new Error(`${response.status} ${type}`)
  }
  const { bytes, complete } = await response.body()
  if (!complete) throw new Error(`the answer broke off after ${bytes.length} bytes`)
  let at = 0
  for (const range of ranges) at = expectPart(bytes, at, boundary, range, content)
  const end = bytes.subarray(at).toString('latin1')
  if (end !== `\r\n--${boundary}--\r\n`)
    throw new Error(`after the last part: ${end.slice(0, 200)}`)
}

/** Reads one part (RFC 9110 14.6) and resolves with where it ends. */
function expectPart(
  bytes: Buffer,
  at: number,
  boundary: string,
  { start, end }: Range,
  content: TestContent,
): number {
  const blank = bytes.indexOf('\r\n\r\n', at)
  const [delimiter, ...headers] = bytes
    .toString('latin1', at, blank)
    .replace(/^\r\n/, '')
    .split('\r\n')
  if (blank < 0 || delimiter !== `--${boundary}`) throw new Error(`no part at ${at}: ${delimiter}`)
  const wanted = `content-range: bytes ${start}-${end - 1}/${content.size}`
  if (!headers.some((line) => line.toLowerCase() === wanted)) {
    throw new Error(`instead of ${wanted}: ${headers.join(', ')}`)
  }
  const from = blank + '\r\n\r\n'.length
  const part = bytes.subarray(from, from + end - start)
  const right = Buffer.concat([...content.slices(start, end)])
  if (!part.equals(right)) throw new Error(`wrong bytes in the part of ${start}-${end - 1}`)
  return from + part.length
}

// Disjoint, all over the blob, of sizes from 1 byte to 16 KiB, and in no order: the step is coprime
// to their number.
function scattered(size: number): Range[] {
  const stride = Math.floor(size / RANGES)
  return Array.from({ length: RANGES }, (_, i) => {
    const slot = (i * 389) % RANGES
    const start = slot * stride + ((slot * 31) % 1000)
    return { start, end: start + 1 + ((slot * slot * 7) % (16 * 1024)) }
  })
}
