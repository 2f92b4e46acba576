// The JSON log: one object a line on standard output, written in batches that never block a response.
import { destination as fileDestination, type DestinationStream, type Logger, pino } from 'pino'

const BATCH_BYTES = 4096
const FLUSH_EVERY_MS = 250
const STANDARD_OUTPUT = 1

/** Nothing of ours logs headers; these are for what a library's error may drag along. */
const SECRET_PATHS = ['authorization', 'password', 'token', 'cookie'].flatMap((name) => [
  name,
  `*.${name}`,
  `*.*.${name}`,
  `*.*.*.${name}`,
])

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
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: SECRET_PATHS, censor: '[redacted]' },
  }
  return pino(pinoOptions, options.destination ?? standardOutput())
}

function standardOutput(): DestinationStream {
  return fileDestination({
    dest: STANDARD_OUTPUT,
    sync: false,
    minLength: BATCH_BYTES,
    periodicFlush: FLUSH_EVERY_MS,
  })
}
