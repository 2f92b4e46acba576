// One HTTP exchange on one connection: the head as a promise, the body as an async iterable. Uses
// undici's dispatch, because its streams cost a third more per byte. Knows nothing about registries.
import type { Dispatcher } from 'undici'
import type { Headers } from '../../http/headers.ts'

export interface Head {
  readonly status: number
  readonly headers: Headers
}

export interface ExchangeOptions {
  readonly signal?: AbortSignal | undefined
  /** Turns an error of the network into the error that the body's reader gets. */
  readonly translate: (error: Error) => Error
  /** Called with the bytes that arrived since the last call, about once per MiB and at the end. */
  readonly onBytes?: (bytes: number) => void
}

/** How an answer's body ended. */
export interface BodyEnd {
  /** `left`: the reader did not want the rest, or the answer had no length and may be incomplete. */
  readonly outcome: 'whole' | 'broken' | 'left'
  /** How many bytes arrived. */
  readonly bytes: number
  /** What the reader got: why the body broke off, or the signal's reason. */
  readonly error?: Error | undefined
}

/** The connection is paused while this many bytes are unread. */
const HIGH_WATER = 256 * 1024
/** To keep its connection, the rest of an unwanted body is read if it is at most this many bytes. */
const WORTH_DRAINING = 64 * 1024
/** How long to read an unwanted body for: beyond this a new connection costs less. */
const DRAIN_MS = 2000
/** The most 1xx responses (RFC 9110 15.2) before the final one. */
const MAX_INFORMATIONAL = 20
const REPORT_BYTES = 1024 * 1024

/** Only 1xx responses came, and no final one. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
  readonly code = 'CHANDLERY_NO_ANSWER'
}

export class Exchange implements Dispatcher.DispatchHandler, AsyncIterableIterator<Uint8Array> {
  /** Rejects with the network's own error or the signal's reason. */
  readonly head: Promise<Head>
  /** Resolves before the body's reader learns of it. */
  readonly ended: Promise<BodyEnd>
  readonly #end = Promise.withResolvers<BodyEnd>()
  readonly #head = Promise.withResolvers<Head>()
  readonly #options: ExchangeOptions
  readonly #chunks: Uint8Array[] = []
  #queued = 0
  #received = 0
  #reported = 0
  #expected: number | undefined
  /** The answer says where it ends; it does not just end with the connection. */
  #isDelimited = false
  #controller: Dispatcher.DispatchController | undefined
  #informational = 0
  #started = false
  /** Set once the body is not wanted: how many bytes of it are read nevertheless. */
  #allowance: number | undefined
  #drainTimer: NodeJS.Timeout | undefined
  #ended = false
  #failure: Error | undefined
  #reader: PromiseWithResolvers<IteratorResult<Uint8Array>> | undefined

  constructor(options: ExchangeOptions) {
    this.#options = options
    this.head = this.#head.promise
    this.head.catch(() => undefined) // it may reject before anybody waits for it
    this.ended = this.#end.promise
    options.signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  /** Must be called before the request is sent: an aborted signal fires no event any more. */
  throwIfAborted(): void {
    if (this.#options.signal?.aborted === true) this.#onAbort()
  }

  // What undici calls.

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#ended) controller.abort(this.#failure ?? new Error('not wanted any more'))
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    // Each 1xx restarts undici's time limit for the final response.
    if (status < 200) {
      if (++this.#informational > MAX_INFORMATIONAL) this.#abort(controller, new NoAnswer())
      return
    }
    this.#started = true
    this.#expected = readLength(headers['content-length'])
    this.#isDelimited = this.#expected !== undefined || 'transfer-encoding' in headers
    this.#head.resolve({ status, headers })
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#received += chunk.length
    this.#report(REPORT_BYTES)
    if (this.#allowance !== undefined) {
      this.#drain(controller, this.#allowance)
      return
    }
    if (this.#reader !== undefined) {
      this.#settle({ done: false, value: chunk })
      return
    }
    this.#chunks.push(chunk)
    this.#queued += chunk.length
    if (this.#queued >= HIGH_WATER) controller.pause()
  }

  // If a callback throws here or in onResponseData, undici closes the connection and calls
  // onResponseError with what was thrown.
  onResponseEnd(): void {
    this.#report(1)
    this.#finish(this.#isDelimited ? 'whole' : 'left')
    this.#settle({ done: true, value: undefined })
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#fail(error)
  }

  // What the body's reader calls.

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const chunk = this.#chunks.shift()
    if (chunk !== undefined) return Promise.resolve({ done: false, value: this.#taken(chunk) })
    if (this.#failure !== undefined && !this.#isDiscarded) return Promise.reject(this.#failure)
    if (this.#ended || this.#isDiscarded) return Promise.resolve({ done: true, value: undefined })
    this.#reader ??= Promise.withResolvers()
    return this.#reader.promise
  }

  return(): Promise<IteratorResult<Uint8Array>> {
    this.discard()
    return Promise.resolve({ done: true, value: undefined })
  }

  /**
   * Frees the connection for others, or closes it: the rest of the body is not wanted. Never throws.
   */
  discard(): void {
    if (this.#allowance !== undefined) return
    this.#allowance = this.#received + WORTH_DRAINING
    this.#chunks.length = 0
    this.#settle({ done: true, value: undefined })
    if (this.#ended || this.#controller === undefined) return
    this.#drain(this.#controller, this.#allowance)
    if (this.#ended) return
    this.#drainTimer = setTimeout(() => this.#giveUp(), DRAIN_MS).unref()
    this.#controller.resume()
  }

  get #isDiscarded(): boolean {
    return this.#allowance !== undefined
  }

  #taken(chunk: Uint8Array): Uint8Array {
    this.#queued -= chunk.length
    if (this.#queued === 0) this.#controller?.resume()
    return chunk
  }

  #drain(controller: Dispatcher.DispatchController, allowance: number): void {
    if (Math.max(this.#expected ?? 0, this.#received) > allowance) {
      this.#abort(controller, new Error('the rest of the body is not wanted'))
    }
  }

  #giveUp(): void {
    const controller = this.#controller
    if (controller) this.#abort(controller, new Error('the rest of the body takes too long'))
  }

  #settle(result: IteratorResult<Uint8Array>): void {
    const reader = this.#reader
    this.#reader = undefined
    reader?.resolve(result)
  }

  readonly #onAbort = (): void => {
    const reason: unknown = this.#options.signal?.reason
    const error = reason instanceof Error ? reason : new Error('aborted', { cause: reason })
    if (this.#controller !== undefined) this.#abort(this.#controller, error)
    else this.#fail(error)
  }

  #abort(controller: Dispatcher.DispatchController, reason: Error): void {
    controller.abort(reason)
    this.#fail(reason)
  }

  #fail(reason: Error): void {
    if (this.#ended) return
    const error = this.#reportRest() ?? reason
    const isAbort = this.#isAbort(error)
    this.#failure = isAbort ? error : this.#translated(error)
    this.#finish(isAbort || this.#isDiscarded ? 'left' : 'broken')
    this.#head.reject(error)
    const reader = this.#reader
    this.#reader = undefined
    reader?.reject(this.#failure)
  }

  #translated(error: Error): Error {
    return this.#started && !this.#isDiscarded ? this.#options.translate(error) : error
  }

  #isAbort(error: Error): boolean {
    const signal = this.#options.signal
    return signal?.aborted === true && (error === signal.reason || error.cause === signal.reason)
  }

  #finish(outcome: BodyEnd['outcome']): void {
    this.#ended = true
    this.#end.resolve({ outcome, bytes: this.#received, error: this.#failure })
    clearTimeout(this.#drainTimer)
    this.#options.signal?.removeEventListener('abort', this.#onAbort)
  }

  /**
   * Returns what the callback throws, if it does: nothing would call `onResponseError` with it any
   * more.
   */
  #reportRest(): Error | undefined {
    try {
      this.#report(1)
      return undefined
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error))
    }
  }

  #report(atLeast: number): void {
    const bytes = this.#received - this.#reported
    if (bytes < atLeast) return
    this.#reported = this.#received
    this.#options.onBytes?.(bytes)
  }
}

function readLength(header: string | string[] | undefined): number | undefined {
  return typeof header === 'string' && /^\d{1,15}$/.test(header) ? Number(header) : undefined
}
