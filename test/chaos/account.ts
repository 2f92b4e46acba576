// What one blob may cost upstream: what its readers needed, and what the faults, lies, cuts and
// restarts that it met excuse. It counts from what the test registries recorded.
import { NEAR_PARTS_BYTES } from '../../src/cache/fetch/read-ahead.ts'
import { Intervals } from '../../src/http/intervals.ts'
import type { ActiveFault } from '../support/faults.ts'
import type { RegistryRequestRecord, TestRegistry } from '../support/registry.ts'
import type { Span, Subject } from './clients.ts'
import { LIES } from './troubles.ts'

/** A trouble that was set on an endpoint. */
export interface SetTrouble {
  readonly name: string
  readonly active: ActiveFault
}

export interface Account {
  readonly subject: Subject
  /** What was read; the whole blob is one span. */
  readonly read: readonly Span[]
  readonly troubles: readonly SetTrouble[]
  readonly restarts: number
  readonly pieceBytes: number
}

/** What was needed may come so many times over: seams of pieces, readers that cross. */
const SLACK = 1.2
/** What an upstream has handed to its kernel (tcp_wmem's most) when it is told to stop. */
const ON_ITS_WAY = 4 * 1024 * 1024
/** Pages, and what is too long. */
const ODD_BYTES = 64

/** The bytes that upstreams sent for the blob, and the most that they may have. */
export function costOf(
  { subject, read, troubles, restarts, pieceBytes }: Account,
  upstreams: readonly TestRegistry[],
): { sent: number; most: number; requests: string } {
  const size = subject.bytes.length
  const answers = upstreams.flatMap((upstream) => answersOf(upstream, subject))
  const needed = neededFor(read).bytes
  const excused = [
    ...troubles.map((trouble) => trouble.active.hits * excuseOf(trouble, size, pieceBytes)),
    ...answers.map((answer) => Math.min(overshootOf(answer, answers), ON_ITS_WAY)),
    // What had not been written, or was not yet safe on disk.
    restarts * size,
  ]
  const sent = sum(answers.map(({ bytes }) => bytes))
  const requests = answers.map(({ headers, bytes }) => `${headers.range ?? 'all'}: ${bytes}`)
  return { sent, most: needed * SLACK + sum(excused), requests: requests.join(', ') }
}

/** What lies between two parts that are close together comes with them. */
function neededFor(read: readonly Span[]): Intervals {
  const needed = new Intervals(read.filter(({ start, end }) => start < end))
  const spans = [...needed]
  for (const [index, { start }] of spans.entries()) {
    const end = spans[index - 1]?.end ?? start
    if (start - end <= NEAR_PARTS_BYTES) needed.add(end, start)
  }
  return needed
}

/** One piece, or whatever was fetched when it came out that some of it is wrong. */
function excuseOf({ name }: SetTrouble, size: number, pieceBytes: number): number {
  if (name in LIES) return size + ODD_BYTES
  const most = name === 'ignoreRange' ? ON_ITS_WAY : pieceBytes
  return Math.min(most, size) + ODD_BYTES
}

function answersOf(upstream: TestRegistry, { digest }: Subject): RegistryRequestRecord[] {
  const requests = upstream.requestsFor(digest)
  return requests.filter(({ method, status }) => method === 'GET' && status < 300)
}

/** Of an answer that has no end: what it brought from where another request was to go on. */
function overshootOf(answer: RegistryRequestRecord, all: readonly RegistryRequestRecord[]): number {
  const { start, isOpen } = placeOf(answer)
  const reached = start + answer.bytes
  if (!isOpen) return 0
  const others = all.map((other) => placeOf(other).start)
  return reached - Math.min(reached, ...others.filter((other) => other > start))
}

function placeOf({ status, headers }: RegistryRequestRecord): { start: number; isOpen: boolean } {
  const [, start = '0', end = ''] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '') ?? []
  return status === 206 ? { start: Number(start), isOpen: end === '' } : { start: 0, isOpen: true }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}
