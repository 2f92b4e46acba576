// The ways in which clients read a blob. Each client checks that a complete response has the right
// bytes.
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { rawRequest } from '../support/raw-client.ts'

/** The requested blob. */
export interface Subject {
  readonly digest: Digest
  readonly bytes: Buffer
  /** Whether upstreams may have sent wrong bytes or a wrong size. */
  readonly lied: boolean
}

/** Offsets are given as `shares` of the size. */
export type Client = (url: string, subject: Subject, shares: readonly number[]) => Promise<void>

interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly bytes: Buffer
  /** True if the response was a success and arrived completely. */
  readonly done: boolean
}

/** Bytes [start, end). */
export interface Span {
  readonly start: number
  readonly end: number
}

const REFUSALS = [403, 404, 416, 502, 503, 504]
const MOST_RESUMPTIONS = 4

export const CLIENTS: Readonly<Record<string, Client>> = {
  async whole(url, { digest, bytes }) {
    const answer = await ask(url)
    if (!answer.done) return
    expect(answer.bytes.equals(bytes)).toBe(true)
    expect(answer.headers.get('docker-content-digest')).toBe(digest)
  },

  async wholeAsRange(url, { bytes }) {
    const answer = await ask(url, 'bytes=0-')
    if (answer.done) expect(answer.bytes.equals(bytes)).toBe(true)
  },

  async range(url, { bytes, lied }, shares) {
    const [span] = spansOf(bytes.length, shares)
    if (!span) return
    const answer = await ask(url, rangeOf([span]))
    // A range is not verified, as in any registry.
    if (!answer.done || (answer.status === 206 && lied)) return
    const { start, end } = answer.status === 206 ? span : { start: 0, end: bytes.length }
    expect(answer.bytes.equals(bytes.subarray(start, end))).toBe(true)
    const range = answer.headers.get('content-range')
    expect(range).toBe(answer.status === 206 ? `bytes ${start}-${end - 1}/${bytes.length}` : null)
  },

  async ranges(url, { bytes, lied }, shares) {
    const spans = spansOf(bytes.length, shares)
    if (spans.length < 2) return
    const answer = await ask(url, rangeOf(spans))
    if (!answer.done || (answer.status === 206 && lied)) return
    const type = answer.headers.get('content-type') ?? ''
    const expected = answer.status === 206 ? multipartOf(type, bytes, spans) : bytes
    expect(answer.bytes.equals(expected)).toBe(true)
  },

  // Resumes at the byte where the response broke off, as containerd does.
  async resuming(url, { bytes, lied }) {
    let got = Buffer.alloc(0)
    for (let resumed = 0; resumed <= MOST_RESUMPTIONS; resumed++) {
      const answer = await ask(url, got.length > 0 ? `bytes=${got.length}-` : undefined)
      if (!isSuccess(answer.status)) continue
      const fresh = answer.status === 206 ? answer.bytes : answer.bytes.subarray(got.length)
      got = Buffer.concat([got, fresh])
      if (!answer.done) continue
      // The client's own check has to find wrong bytes that were sent before they were detected.
      if (!lied || resumed === 0) expect(got.equals(bytes)).toBe(true)
      return
    }
  },

  async leaving(url, { bytes }, [share = 0]) {
    using response = await rawRequest(url)
    const measured = response.headers.has('content-length')
    if (measured && response.status === 200) await response.read(Math.floor(bytes.length * share))
  },

  async slow(url, { bytes }) {
    using response = await rawRequest(url)
    if (!isSuccess(response.status)) return
    await sleep(30)
    const measured = response.headers.has('content-length')
    const first = measured ? await response.read(100_000) : Buffer.alloc(0)
    await sleep(30)
    const rest = await response.body()
    if (rest.complete) expect(Buffer.concat([first, rest.bytes]).equals(bytes)).toBe(true)
  },

  async head(url, { bytes, lied }) {
    using response = await rawRequest(url, { method: 'HEAD' })
    const length = response.headers.get('content-length')
    if (!isSuccess(response.status) || length === null || lied) return
    expect(Number(length)).toBe(bytes.length)
  },
}

/** Returns the spans that a client of this kind reads. */
export function readBy(kind: string, size: number, shares: readonly number[]): Span[] {
  const spans = spansOf(size, shares)
  if (kind === 'head') return []
  if (kind === 'range') return spans.slice(0, 1)
  if (kind === 'ranges') return spans.length < 2 ? [] : spans
  return [{ start: 0, end: size }]
}

/** Reads one response to its end. */
export async function ask(url: string, range?: string): Promise<Answer> {
  using response = await rawRequest(url, { headers: range === undefined ? {} : { range } })
  const { status, headers } = response
  const { bytes, complete } = await response.body()
  return { status, headers, bytes, done: isSuccess(status) && complete }
}

function isSuccess(status: number): boolean {
  expect([200, 206, ...REFUSALS]).toContain(status)
  return status < 300
}

function spansOf(size: number, shares: readonly number[]): Span[] {
  const points = shares.map((share) => Math.floor(share * size)).toSorted((a, b) => a - b)
  return points.flatMap((start, index) => {
    const end = points[index + 1]
    return index % 2 === 0 && end !== undefined && end > start ? [{ start, end }] : []
  })
}

function rangeOf(spans: readonly Span[]): string {
  return `bytes=${spans.map(({ start, end }) => `${start}-${end - 1}`).join(',')}`
}

function multipartOf(type: string, bytes: Buffer, spans: readonly Span[]): Buffer {
  const boundary = /boundary=(\S+)$/.exec(type)?.[1]
  const parts = spans.flatMap(({ start, end }, index) => {
    const range = `bytes ${start}-${end - 1}/${bytes.length}`
    const head = `Content-Type: application/octet-stream\r\nContent-Range: ${range}`
    const opening = `${index === 0 ? '' : '\r\n'}--${boundary}\r\n${head}\r\n\r\n`
    return [Buffer.from(opening), bytes.subarray(start, end)]
  })
  return Buffer.concat([...parts, Buffer.from(`\r\n--${boundary}--\r\n`)])
}
