// The JSON log on standard output: one object per line, written in batches that never block a response.
import { destination as fileDestination, type DestinationStream, type Logger, pino } from 'pino'

export type { Logger } from 'pino'

const BATCH_BYTES = 8 * 1024
/** If nobody reads standard output, lines beyond this are dropped so that memory does not fill up. */
const MAX_UNWRITTEN_BYTES = 8 * 1024 * 1024
const FLUSH_EVERY_MS = 250
const STANDARD_OUTPUT = 1
const MAX_CAUSES = 5

const SECRET_HEADERS = /^(proxy-)?authorization$|cookie|token|secret|password/i

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

export interface LogOptions {
  readonly level: LogLevel
  /** Default: standard output, in batches. */
  readonly destination?: DestinationStream
}

export function createLogger(options: LogOptions): Logger {
  const pinoOptions = {
    level: options.level,
    base: null,
    timestamp: timestamps(),
    formatters: { level: (label: string) => ({ level: label }) },
    // pino's `redact` would cost more per line than the rest of the request.
    serializers: { err: describeError, headers: withoutSecrets },
  }
  return pino(pinoOptions, options.destination ?? standardOutput())
}

function standardOutput(): DestinationStream {
  return fileDestination({
    dest: STANDARD_OUTPUT,
    sync: false,
    minLength: BATCH_BYTES,
    maxLength: MAX_UNWRITTEN_BYTES,
    periodicFlush: FLUSH_EVERY_MS,
  })
}

/** Formats a timestamp once per millisecond: many lines share one, and formatting a date is expensive. */
function timestamps(): () => string {
  let at = 0
  let text = ''
  return () => {
    const now = Date.now()
    if (now !== at) text = `,"time":"${new Date(now).toISOString()}"`
    at = now
    return text
  }
}

/**
 * Picks the known fields of an error. Whatever else a library attaches to it (a request, headers, options
 * with a password) stays out of the log.
 */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return String(error)
  const code = 'code' in error ? String(error.code) : undefined
  const { name: type, message, stack } = error
  return { type, message, code, stack, causes: causesOf(error) }
}

function causesOf(error: Error): string[] | undefined {
  const causes: string[] = []
  let cause = error.cause
  while (cause instanceof Error && causes.length < MAX_CAUSES) {
    causes.push(`${cause.name}: ${cause.message}`)
    cause = cause.cause
  }
  return causes.length === 0 ? undefined : causes
}

function withoutSecrets(headers: unknown): unknown {
  if (typeof headers !== 'object' || headers === null) return undefined
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      SECRET_HEADERS.test(name) ? '[redacted]' : value,
    ]),
  )
}
