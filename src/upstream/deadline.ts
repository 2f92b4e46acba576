// A time limit on top of a caller's own signal. Whichever comes first ends the work, and the reason
// of the abort says which it was.

/** Holds a timer and a listener until it is disposed of. */
export class Deadline implements Disposable {
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #caller: AbortSignal | undefined

  /**
   * Its signal fires with what `passed` returns after `ms`, or with the caller's reason before
   * that.
   */
  constructor(ms: number, passed: () => Error, caller?: AbortSignal) {
    this.#timer = setTimeout(() => this.#controller.abort(passed()), ms)
    this.#caller = caller
    if (caller?.aborted === true) this.#onCaller()
    else caller?.addEventListener('abort', this.#onCaller, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    this.#caller?.removeEventListener('abort', this.#onCaller)
  }

  readonly #onCaller = (): void => {
    this.#controller.abort(this.#caller?.reason)
  }
}

/**
 * Settles as the promise does, or rejects with the signal's reason when the signal fires. With
 * `grace`, the promise has until that resolves to settle first.
 */
export async function waitFor<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  grace?: () => Promise<void>,
): Promise<T> {
  if (signal === undefined) return await promise
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => {
    if (grace === undefined) reject(signal.reason)
    else void grace().finally(() => reject(signal.reason))
  }
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  try {
    // Even if the signal has fired already: a later rejection of the promise must have a handler.
    return await Promise.race([aborted, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
