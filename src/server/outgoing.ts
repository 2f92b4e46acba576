// One response's way to its client: writes that end when the kernel has the bytes, the stall limit,
// and a signal for a client that is gone. It does not know what it sends.
import type { ServerResponse } from 'node:http'

/** The client left, or made no progress for too long: there is nobody to send to. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone'
}

export class Outgoing {
  /** Body bytes the kernel has taken. */
  bytes = 0
  readonly #res: ServerResponse
  readonly #gone: AbortSignal
  readonly #onBytes: (bytes: number) => void
  #giveUp: ((error: Error) => void) | undefined
  #stalled = false

  /** `gone` fires when the connection has closed; `onBytes` is told `bytes` whenever it has grown. */
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
    // Node restarts this timer with every write and, at its end, when a write under way has advanced.
    res.setTimeout(stallTimeoutMs, () => this.#onTimeout(stallTimeoutMs))
  }

  /**
   * Resolves when the kernel has all the bytes, which may be reused from then on, with the
   * milliseconds that took. Rejects with ClientGone.
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

  /** The clean end of a complete response. */
  end(): void {
    this.#res.end()
  }

  /** Cuts a response that cannot be completed; a chunked one must not look finished. */
  destroy(): void {
    this.#res.destroy()
  }

  // While bytes are awaited from upstream the client cannot make progress: only a write counts.
  #onTimeout(stallTimeoutMs: number): void {
    if (!this.#giveUp) return
    this.#stalled = true
    this.#giveUp(new ClientGone(`the client took nothing for ${stallTimeoutMs / 1000} s`))
    this.destroy()
  }

  #whyGone(cause?: Error): ClientGone {
    const what = this.#stalled ? 'the client took nothing for too long' : 'the client left'
    return new ClientGone(what, cause && { cause })
  }
}
