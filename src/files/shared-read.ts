// Reading something that may hang, such as a file on a network file system whose server is gone. At
// most one read of it runs at a time, because each that hangs holds a thread of the process, and
// nobody waits for one longer than a bound.

/** The read has taken too long. It is still running: until it ends, everybody is told so at once. */
export class ReadTimeout extends Error {
  override readonly name = 'ReadTimeout'
}

/** A secret or a credential is a few hundred bytes: what takes longer than this is not slow, it hangs. */
export const READ_TIMEOUT_MS = 10_000

export class SharedRead<T> {
  readonly #what: string
  readonly #timeoutMs: number
  #running: Promise<T> | undefined

  /** `what`: what is read, for the message; not a secret. */
  constructor(what: string, timeoutMs = READ_TIMEOUT_MS) {
    this.#what = what
    this.#timeoutMs = timeoutMs
  }

  /** Joins the read that is running, or starts this one. Throws what it throws, or ReadTimeout. */
  run(read: () => Promise<T>): Promise<T> {
    this.#running ??= this.#start(read)
    return this.#running
  }

  async #start(read: () => Promise<T>): Promise<T> {
    const reading = read()
    const ended = () => {
      this.#running = undefined
    }
    reading.then(ended, ended)
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => late.reject(this.#timeout()), this.#timeoutMs)
    try {
      return await Promise.race([reading, late.promise])
    } finally {
      clearTimeout(timer)
    }
  }

  #timeout(): ReadTimeout {
    const cure = 'check the file system it is on'
    return new ReadTimeout(`${this.#what} was not read within ${this.#timeoutMs / 1000} s: ${cure}`)
  }
}
