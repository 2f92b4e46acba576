// Computes how many bytes of one blob upstreams may send: those that readers needed, and those that
// faults, wrong bytes, cuts and restarts excuse. It uses the records of the test registries.
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
  /** The spans that were read. The whole blob is one span. */
  readonly read: readonly Span[]
  readonly troubles: readonly SetTrouble[]
  readonly restarts: number
  readonly pieceBytes: number
}

/** How often needed bytes may be sent: pieces overlap and readers cross. */
const SLACK = 1.2
/**
 * What an upstream may have handed to its kernel (tcp_wmem's maximum) before it is told to stop.
 */
const ON_ITS_WAY = 4 * 1024 * 1024
/** Error pages, and bytes after the end of a body that is too long. */
const ODD_BYTES = 64

/** Returns how many bytes upstreams sent for the blob, and the most that they may send. */
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
    // Bytes that were not written yet, or not yet durable.
    restarts * size,
  ]
  const sent = sum(answers.map(({ bytes }) => bytes))
  const requests = answers.map(({ headers, bytes }) => `${headers.range ?? 'all'}: ${bytes}`)
  return { sent, most: needed * SLACK + sum(excused), requests: requests.join(', ') }
}

/** The gap between two parts that are close together is fetched with them. */
function neededFor(read: readonly Span[]): Intervals {
  const needed = new Intervals(read.filter(({ start, end }) => start < end))
  const spans = [...needed]
  for (const [index, { start }] of spans.entries()) {
    const end = spans[index - 1]?.end ?? start
    if (start - end <= NEAR_PARTS_BYTES) needed.add(end, start)
  }
  return needed
}

/** One piece, or everything fetched so far if some of it proved wrong. */
function excuseOf({ name }: SetTrouble, size: number, pieceBytes: number): number {
  if (name in LIES) return size + ODD_BYTES
  const most = name === 'ignoreRange' ? ON_ITS_WAY : pieceBytes
  return Math.min(most, size) + ODD_BYTES
}

function answersOf(upstream: TestRegistry, { digest }: Subject): RegistryRequestRecord[] {
  const requests = upstream.requestsFor(digest)
  return requests.filter(({ method, status }) => method === 'GET' && status < 300)
}

/** For a response without an end: its bytes past the start of the next request's range. */
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
