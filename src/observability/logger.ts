// The JSON log: one object a line on standard output, written in batches that never block a response.
import { destination as fileDestination, type DestinationStream, type Logger, pino } from 'pino'

export type { Logger } from 'pino'

const BATCH_BYTES = 8 * 1024
/** Where nobody reads standard output, lines are dropped rather than memory filled. */
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
    // Not pino's `redact`: it costs every line more than the rest of the request.
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

/** Many lines fall into one millisecond; formatting a date costs more than comparing a number. */
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
 * Only what an error says: whatever else a library hangs on it (a request, its headers, options with
 * a password) stays out of the log.
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
