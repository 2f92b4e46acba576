// `chandlery serve`: runs a server until a signal, and turns how it ended into an exit code.
import type { Config } from '../config/config.ts'
import { loadConfig } from '../config/load.ts'
import { formatProblem } from '../config/problem.ts'
import { createLogger, type Logger } from '../observability/logger.ts'
import type { Options } from './arguments.ts'
import type { Io } from './io.ts'

/** A server put together by main. */
export interface Servable {
  /** Resolves when the server must stop by itself. */
  readonly lost: Promise<void>
  start(): Promise<void>
  /** True: no response was cut. */
  stop(): Promise<boolean>
}

/** Serves until SIGTERM or SIGINT; 1 where it could not start or had to give up. */
export async function runServe(
  options: Options,
  io: Io,
  create: (config: Config, logger: Logger) => Servable,
): Promise<0 | 1> {
  const { config, warnings } = await loadConfig(options, io.env)
  const logger = createLogger({ level: config.log.level })
  for (const warning of warnings) logger.warn(formatProblem(warning))
  try {
    return await serve(create(config, logger), logger)
  } catch (error) {
    logger.fatal({ err: error }, 'the server cannot start')
    io.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  } finally {
    await new Promise<void>((resolve) => logger.flush(() => resolve()))
  }
}

async function serve(server: Servable, logger: Logger): Promise<0 | 1> {
  const signalled = untilSignal()
  const stopping = Promise.race([signalled, server.lost.then(() => 'lost' as const)])
  try {
    // A second server waits for the directory as long as it takes: a signal ends that as well.
    const first = await Promise.race([server.start().then(() => 'started' as const), stopping])
    const reason = first === 'started' ? await stopping : first
    if (reason === 'lost') logger.error('another server has taken the directory: stopping')
    else logger.info({ signal: reason }, 'stopping: running responses may end')
    const clean = await server.stop()
    logger.info({ clean }, 'stopped')
    return reason === 'lost' ? 1 : 0
  } catch (error) {
    await server.stop()
    throw error
  }
}

/** Ctrl-C under npm comes twice at once, from the terminal and from npm; systemd and timeout do the like. */
const SAME_SIGNAL_MS = 1_000

/** The first signal asks for an orderly end; one more, a while later, ends the process at once. */
function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.once(name, () => {
        resolve(name)
        const askedAt = performance.now()
        process.on(name, () => {
          if (performance.now() - askedAt > SAME_SIGNAL_MS) process.exit(1)
        })
      })
    }
  })
}
