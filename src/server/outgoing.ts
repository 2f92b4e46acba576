// One response's way to its client: writes that end when the kernel has the bytes, the stall limit,
// and a signal for a client that is gone. It does not know what it sends.
import type { ServerResponse } from 'node:http'

/** The client left, or took no bytes for too long. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone'
}

export class Outgoing {
  /** Body bytes that the kernel has taken. */
  bytes = 0
  readonly #res: ServerResponse
  readonly #gone: AbortSignal
  readonly #onBytes: (bytes: number) => void
  #giveUp: ((error: Error) => void) | undefined
  #stalled = false

  /** `gone` fires when the connection has closed. `onBytes` is called with `bytes` whenever it has grown. */
  constructor(
    res: ServerResponse,
    gone: AbortSignal,
    stallTimeoutMs: number,
    onBytes: (bytes: number) => void = () => {},
  ) {
    this.#onBytes = onBytes
    this.#res = res
    this.#gone = gone
    gone.addEventListener('abort', () => this.#giveUp?.(this.#whyGone()), { once: true })
    // Node restarts this timer with every write, and when it expires while a write has made progress.
    res.setTimeout(stallTimeoutMs, () => this.#onTimeout(stallTimeoutMs))
  }

  /**
   * Resolves when the kernel has taken all the bytes, whose buffer may be reused from then on, with the
   * milliseconds that this took. Rejects with ClientGone.
   */
  write(bytes: Uint8Array): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    if (this.#gone.aborted) return Promise.reject(this.#whyGone())
    this.#giveUp = reject
    const startedAt = performance.now()
    this.#res.write(bytes, (error) => {
      this.#giveUp = undefined
      if (error) return reject(this.#whyGone(error))
      this.bytes += bytes.length
      this.#onBytes(this.bytes)
      resolve(performance.now() - startedAt)
    })
    return promise
  }

  /** Ends a complete response. */
  end(): void {
    this.#res.end()
  }

  /** Cuts a response that cannot be completed. A chunked one must not look finished. */
  destroy(): void {
    this.#res.destroy()
  }

  // Only a pending write can stall: while we wait for the upstream there is nothing for the client to take.
  #onTimeout(stallTimeoutMs: number): void {
    if (!this.#giveUp) return
    this.#stalled = true
    this.#giveUp(new ClientGone(`the client took no bytes for ${stallTimeoutMs / 1000} s`))
    this.destroy()
  }

  #whyGone(cause?: Error): ClientGone {
    const what = this.#stalled ? 'the client took no bytes for too long' : 'the client left'
    return new ClientGone(what, cause && { cause })
  }
}
