// `chandlery serve`: runs a server until a signal, and turns how it ended into an exit code.
import { type Loaded, loadConfig } from '../config/load.ts'
import { formatProblem } from '../config/problem.ts'
import { createLogger, type Logger } from '../observability/logger.ts'
import type { Options } from './arguments.ts'
import type { Io } from './io.ts'

/** A server put together by main. */
export interface Servable {
  /** Resolves when the server must stop by itself. */
  readonly lost: Promise<void>
  start(): Promise<void>
  /** Reads the configuration again; the log says what came of it. */
  reload(trigger: string): Promise<void>
  /** True: no response was cut. `hurry` ends it at once; without `delay` nobody new is let in. */
  stop(options?: { readonly hurry?: AbortSignal; readonly delay?: boolean }): Promise<boolean>
}

/** What a server is made of. */
export interface Start {
  readonly loaded: Loaded
  /** Reads all of it again: flags and variables win as they did at the start. */
  readonly load: () => Promise<Loaded>
  readonly logger: Logger
}

/** Serves until SIGTERM or SIGINT; 1 where it could not start or had to give up. */
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
    // A second server waits for the directory as long as it takes: a signal ends that as well.
    const first = await Promise.race([server.start().then(() => 'started' as const), stopping])
    const reason = first === 'started' ? await stopping : first
    if (reason === 'lost') logger.error('another server has taken the directory: stopping')
    else logger.info({ signal: reason }, 'stopping: /readyz says so, responses may end')
    const clean = await server.stop({ hurry, delay: reason !== 'lost' })
    logger.info({ clean }, 'stopped')
    exitSoon()
    return reason === 'lost' || hurry.aborted ? 1 : 0
  } catch (error) {
    await server.stop({ hurry, delay: false })
    throw error
  }
}

/** On a terminal a hangup means that it was closed: then it ends the server, as ever. */
function reloadOnHangup(server: Servable): void {
  if (process.stdout.isTTY) return
  process.on('SIGHUP', () => void server.reload('SIGHUP'))
}

/** Ctrl-C under npm comes twice at once, from the terminal and from npm; systemd and timeout do the like. */
const SAME_SIGNAL_MS = 1_000
/** What is left to do after the second signal, or when all is stopped, may take so long: a disk may hang. */
const LAST_MS = 4_000

interface Signals {
  readonly first: Promise<NodeJS.Signals>
  /** Fires with the second one. */
  readonly hurry: AbortSignal
}

/** The first signal asks for an orderly end; one more, a while later, ends what runs; a third the process. */
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

/** Does not keep the process running, but ends it where something hangs. */
function exitSoon(code?: number): void {
  setTimeout(() => process.exit(code), LAST_MS).unref()
}
