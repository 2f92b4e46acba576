// `chandlery serve`: runs a server until a signal stops it, and turns the outcome into an exit code.
import { type Loaded, loadConfig } from '../config/load.ts'
import { formatProblem } from '../config/problem.ts'
import { createLogger, type Logger } from '../observability/logger.ts'
import type { Options } from './arguments.ts'
import type { Io } from './io.ts'

/** A server, composed by main. */
export interface Servable {
  /** Resolves when the server has lost its directory and must stop. */
  readonly lost: Promise<void>
  start(): Promise<void>
  /** Reads the configuration again and logs the outcome. */
  reload(trigger: string): Promise<void>
  /**
   * Stops the server, and resolves with true if no response was cut. `hurry` cuts the responses that
   * are still running. Without `delay`, new requests are refused from the start.
   */
  stop(options?: { readonly hurry?: AbortSignal; readonly delay?: boolean }): Promise<boolean>
}

/** The parts that a server is created from. */
export interface Start {
  readonly loaded: Loaded
  /** Loads the configuration again. Flags and variables win as they did at startup. */
  readonly load: () => Promise<Loaded>
  readonly logger: Logger
}

/** Serves until SIGTERM or SIGINT. Returns 1 if the server could not start or did not stop cleanly. */
export async function runServe(
  options: Options,
  io: Io,
  create: (start: Start) => Servable,
): Promise<0 | 1> {
  const load = () => loadConfig(options, io.env)
  const loaded = await load()
  const { config, warnings } = loaded
  const logger = createLogger({ level: config.log.level })
  for (const warning of warnings) logger.warn(formatProblem(warning))
  try {
    return await serve(create({ loaded, load, logger }), logger)
  } catch (error) {
    logger.fatal({ err: error }, 'the server cannot start')
    io.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  } finally {
    await new Promise<void>((resolve) => logger.flush(() => resolve()))
  }
}

async function serve(server: Servable, logger: Logger): Promise<0 | 1> {
  const signals = listenForSignals()
  const stopping = Promise.race([signals.first, server.lost.then(() => 'lost' as const)])
  const { hurry } = signals
  reloadOnHangup(server)
  try {
    // A second server waits for the directory without limit, so a signal must also end the start.
    const first = await Promise.race([server.start().then(() => 'started' as const), stopping])
    const reason = first === 'started' ? await stopping : first
    if (reason === 'lost') logger.error('another server has taken over the directory: stopping')
    else
      logger.info(
        { signal: reason },
        'stopping: /readyz answers 503, responses in progress may finish',
      )
    const clean = await server.stop({ hurry, delay: reason !== 'lost' })
    logger.info({ clean }, 'stopped')
    exitSoon()
    return reason === 'lost' || hurry.aborted ? 1 : 0
  } catch (error) {
    await server.stop({ hurry, delay: false })
    throw error
  }
}

/** On SIGHUP, reloads; but on a terminal, where it means that the terminal was closed, the server ends. */
function reloadOnHangup(server: Servable): void {
  if (process.stdout.isTTY) return
  process.on('SIGHUP', () => void server.reload('SIGHUP'))
}

/**
 * Signals within this time count as one. Under npm, Ctrl-C arrives twice, from the terminal and from
 * npm; systemd and timeout do the same.
 */
const SAME_SIGNAL_MS = 1_000
/** How long the process may take to end after the second signal or after the stop: a disk may hang. */
const LAST_MS = 4_000

interface Signals {
  readonly first: Promise<NodeJS.Signals>
  /** Fires with the second signal. */
  readonly hurry: AbortSignal
}

/**
 * Listens for signals. The first asks for an orderly stop, the second cuts the responses that are still
 * running, the third ends the process.
 */
function listenForSignals(): Signals {
  const first = Promise.withResolvers<NodeJS.Signals>()
  const hurry = new AbortController()
  let [count, lastMs] = [0, -Infinity]
  const on = (name: NodeJS.Signals) => {
    const isSame = performance.now() - lastMs <= SAME_SIGNAL_MS
    if (isSame) return
    lastMs = performance.now()
    count += 1
    first.resolve(name)
    if (count === 2) hurry.abort()
    if (count === 2) exitSoon(1)
    if (count === 3) process.exit(1)
  }
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, on)
  return { first: first.promise, hurry: hurry.signal }
}

/** Ends the process after a while if something hangs. It does not keep the process running. */
function exitSoon(code?: number): void {
  setTimeout(() => process.exit(code), LAST_MS).unref()
}
