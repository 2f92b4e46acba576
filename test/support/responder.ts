// Sends one response of a test host, with its fault, and counts what was really sent.
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { bytesContent, type TestContent } from './content.ts'
import type { ActiveFault, Fault } from './faults.ts'

const CHUNK = 64 * 1024
const EMPTY = bytesContent(Buffer.alloc(0))

/**
 * A response before any fault. `start` and `end` (exclusive) are the part of the content to send.
 */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[]>>
  readonly content: TestContent
  readonly start: number
  readonly end: number
}

/** The record into which the responder writes what it has done. */
export interface SentRecord {
  status: number
  bytes: number
  finished: boolean
}

/** Returns a response with a small body. */
export function answer(
  status: number,
  body: string | Uint8Array = '',
  headers: Readonly<Record<string, string>> = {},
): Answer {
  const content = bytesContent(Buffer.from(body))
  return { status, headers, content, start: 0, end: content.size }
}

/** Returns a response with an OCI error body (spec, "Error Codes"). */
export function errorAnswer(
  status: number,
  code: string,
  headers: Readonly<Record<string, string>> = {},
): Answer {
  const body = JSON.stringify({ errors: [{ code, message: `test registry: ${code}` }] })
  return answer(status, body, { 'content-type': 'application/json', ...headers })
}

/**
 * Returns the part of the content that a single Range requests, or all of it for several (RFC 9110,
 * 14.2).
 */
export function rangedAnswer(
  content: TestContent,
  range: string | undefined,
  headers: Readonly<Record<string, string>>,
): Answer {
  const { size } = content
  const match = /^bytes=(\d*)-(\d*)$/.exec(range ?? '')
  const [, first = '', last = ''] = match ?? []
  if (!match || (first === '' && last === '')) {
    return { status: 200, headers, content, start: 0, end: size }
  }
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size : Math.min(size, Number(last) + 1)
  if (start >= size || end <= start) {
    return answer(416, '', { 'content-range': `bytes */${size}` })
  }
  const partial = { ...headers, 'content-range': `bytes ${start}-${end - 1}/${size}` }
  return { status: 206, headers: partial, content, start, end }
}

/** Sends the response, changed by the fault. Resolves when nothing more will be sent. */
export async function respond(
  response: ServerResponse,
  planned: Answer,
  head: boolean,
  record: SentRecord,
  active?: ActiveFault,
): Promise<void> {
  const fault = active?.fault ?? {}
  if (fault.delayMs !== undefined) await sleep(fault.delayMs)
  if (fault.stall === 'headers') await active?.released
  if (fault.resetAfter === -1) reset(response)
  if (response.destroyed || response.socket?.destroyed) return
  const sent = statusAnswer(planned, fault)
  record.status = sent.status
  const headers = headersOf(sent, fault)
  response.writeHead(sent.status, headers)
  if (head) return finish(response, record)
  response.flushHeaders()
  if (!(await sendBody(response, sent, record, fault, active))) return
  const announced = headers['content-length']
  if (announced === undefined || Number(announced) === record.bytes) finish(response, record)
  else cut(response)
}

function statusAnswer(planned: Answer, fault: Fault): Answer {
  if (fault.status === undefined && fault.body === undefined) return planned
  const status = fault.status ?? planned.status
  const content = fault.body === undefined ? EMPTY : bytesContent(Buffer.from(fault.body))
  return {
    status,
    headers: fault.status === undefined ? planned.headers : {},
    content,
    start: 0,
    end: content.size,
  }
}

function headersOf(sent: Answer, fault: Fault): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = { ...sent.headers }
  const bodiless = sent.status === 204 || sent.status === 304
  if (!bodiless) headers['content-length'] = String(sent.end - sent.start)
  if (fault.announcedLength === 'none') delete headers['content-length']
  else if (fault.announcedLength !== undefined)
    headers['content-length'] = String(fault.announcedLength)
  Object.assign(headers, fault.headers)
  for (const name of fault.omitHeaders ?? []) delete headers[name]
  return headers
}

// Returns true if the body was sent and the response may end normally.
async function sendBody(
  response: ServerResponse,
  sent: Answer,
  record: SentRecord,
  fault: Fault,
  active: ActiveFault | undefined,
): Promise<boolean> {
  for (const piece of pieces(sent, fault)) {
    if (fault.drip) await sleep(fault.drip.everyMs)
    if (isStall(fault) && record.bytes === fault.stall.afterBytes) await active?.released
    if (record.bytes === fault.cutAfter) return cut(response)
    if (record.bytes === fault.resetAfter) return reset(response)
    if (!(await write(response, piece))) return false
    record.bytes += piece.length
  }
  if (isStall(fault) && record.bytes === fault.stall.afterBytes) await active?.released
  if (fault.resetAfter !== undefined) return reset(response)
  return fault.cutAfter === undefined || cut(response)
}

function isStall(fault: Fault): fault is Fault & { stall: { afterBytes: number } } {
  return typeof fault.stall === 'object'
}

// Yields the body in pieces that end exactly where the fault occurs.
function* pieces(sent: Answer, fault: Fault): Iterable<Buffer> {
  const natural = sent.end - sent.start
  const length = fault.bodyLength ?? natural
  const marks = [
    fault.cutAfter,
    fault.resetAfter,
    isStall(fault) ? fault.stall.afterBytes : undefined,
  ]
  const step = fault.drip?.bytes ?? CHUNK
  for (let at = 0; at < length;) {
    const mark = marks.filter((m) => m !== undefined && m > at).reduce(least, Infinity)
    const next = Math.min(length, at + step, mark ?? Infinity, at < natural ? natural : Infinity)
    if (at < natural) yield* damaged(sent, sent.start + at, sent.start + next, fault.corruptAt)
    else yield Buffer.alloc(next - at, 'x')
    at = next
  }
}

function least(a: number | undefined, b: number | undefined): number {
  return Math.min(a ?? Infinity, b ?? Infinity)
}

function* damaged(sent: Answer, start: number, end: number, corruptAt?: number): Iterable<Buffer> {
  let at = start
  for (const slice of sent.content.slices(start, end)) {
    if (corruptAt === undefined || corruptAt < at || corruptAt >= at + slice.length) yield slice
    else {
      const copy = Buffer.from(slice)
      copy.writeUInt8(copy.readUInt8(corruptAt - at) ^ 0xff, corruptAt - at)
      yield copy
    }
    at += slice.length
  }
}

// Returns true once the chunk was handed to the kernel, and false if the client is gone.
function write(response: ServerResponse, chunk: Buffer): Promise<boolean> {
  if (response.destroyed) return Promise.resolve(false)
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const closed = () => resolve(false)
  response.once('close', closed)
  response.write(chunk, (error) => {
    response.off('close', closed)
    resolve(!error)
  })
  return promise
}

function finish(response: ServerResponse, record: SentRecord): void {
  response.end(() => {
    record.finished = true
  })
}

// destroySoon flushes first, so exactly the counted bytes arrive before the FIN.
function cut(response: ServerResponse): false {
  response.socket?.destroySoon()
  return false
}

function reset(response: ServerResponse): false {
  response.socket?.resetAndDestroy()
  return false
}
