// Which errors are this process's own and say nothing about the server it was talking to: resources
// that ran out, and bugs. Pure.

const MEMORY = ['memory', 'raise the memory limit'] as const

/** What ran out and what to do about it, by error code of the system, of getaddrinfo or of OpenSSL. */
const EXHAUSTED: ReadonlyMap<string, readonly [what: string, cure: string]> = new Map(
  Object.entries({
    EMFILE: ['file descriptors', 'raise the limit of open files of this process (ulimit -n)'],
    ENFILE: ['file descriptors', 'raise the limit of this machine (fs.file-max)'],
    EAGAIN: ['processes, threads or local ports', 'raise the limits of this machine'],
    ENOBUFS: ['network buffers', 'give this machine more memory'],
    ENOMEM: MEMORY,
    EAI_MEMORY: MEMORY,
    OUT_OF_MEM: MEMORY,
    ERR_SSL_MALLOC_FAILURE: MEMORY,
  } as const),
)

/** Errors that wrap each other in a circle must not be followed for ever. */
const MAX_DEPTH = 8

/**
 * Returns which resource ran out and what to do about it, or undefined if the error is about
 * something else. A cause counts, and so does each error of an AggregateError: of two addresses
 * that were tried, one may have been refused and the other never reached.
 */
export function exhaustionOf(error: unknown, depth = MAX_DEPTH): string | undefined {
  if (!(error instanceof Error) || depth === 0) return undefined
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  const exhausted = EXHAUSTED.get(code)
  if (exhausted !== undefined) return `out of ${exhausted[0]} (${code}): ${exhausted[1]}`
  const inner: unknown[] = error instanceof AggregateError ? error.errors : []
  for (const each of [...inner, error.cause]) {
    const found = exhaustionOf(each, depth - 1)
    if (found !== undefined) return found
  }
  return undefined
}

const BUGS = [TypeError, RangeError, ReferenceError, SyntaxError]
const MISUSE =
  /^(ERR_ASSERTION|ERR_INVALID_\w+|UND_ERR_(INVALID_\w+|NOT_SUPPORTED|REQ_CONTENT_LENGTH_MISMATCH))$/

/** Reports whether an error shows a mistake in the code: it was thrown by the language, or on misuse of an API. */
export function isBug(error: unknown): boolean {
  if (!(error instanceof Error)) return true
  if (BUGS.some((kind) => error instanceof kind)) return true
  return 'code' in error && MISUSE.test(String(error.code))
}
