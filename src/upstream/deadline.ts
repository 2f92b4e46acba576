// A time limit on top of a caller's own signal: whichever comes first ends the work, and its
// reason says which it was.

/** To be disposed of when the work is over: until then a timer and a listener are held. */
export class Deadline implements Disposable {
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #caller: AbortSignal | undefined

  /** After `ms` its signal fires with what `passed` makes; before that, if `caller` fires, with its reason. */
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

/** Settles as the promise does, or rejects with the signal's reason as soon as that fires. */
export async function waitFor<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  if (signal.aborted) onAbort()
  else signal.addEventListener('abort', onAbort, { once: true })
  try {
    // Also when it has fired already: a later rejection of the promise must have a handler.
    return await Promise.race([aborted, promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
