// Runs a whole Chandlery in this process, composed as `serve` composes it, on free ports.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Chandlery, type ChandleryOptions, type StopOptions } from '../../src/app/chandlery.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createLogger } from '../../src/observability/logger.ts'

export interface RunningChandlery extends AsyncDisposable {
  readonly url: string
  readonly adminUrl: string
  /** The path of its configuration file. */
  readonly file: string
  /** The parsed lines of the log so far. */
  readonly log: Record<string, unknown>[]
  stop(options?: StopOptions): Promise<void>
}

/**
 * Options that shorten delays; `lookEveryMs` is the interval at which files are checked for
 * changes.
 */
export type StartOptions = Omit<ChandleryOptions, 'version' | 'logger' | 'reloads'> & {
  readonly lookEveryMs?: number
}

interface CreatedChandlery extends Pick<RunningChandlery, 'file' | 'log'> {
  readonly server: Chandlery
}

/**
 * Starts a Chandlery whose cache and configuration file are in `directory`. `config` is the content
 * of the file; the listen addresses and the directory are added. `options` shorten delays.
 */
export async function startChandlery(
  directory: string,
  config: Record<string, unknown>,
  options: StartOptions = {},
): Promise<RunningChandlery> {
  const { server, file, log } = await createChandlery(directory, config, options)
  await server.start()
  let stopped: Promise<boolean> | undefined
  const stop = async (stopOptions?: StopOptions) => {
    stopped ??= server.stop(stopOptions)
    await stopped
  }
  return {
    url: `http://127.0.0.1:${server.ports.api}`,
    adminUrl: `http://127.0.0.1:${server.ports.admin}`,
    file,
    log,
    stop,
    [Symbol.asyncDispose]: () => stop(),
  }
}

/** Creates a Chandlery like `startChandlery`, but does not start it. */
export async function createChandlery(
  directory: string,
  config: Record<string, unknown>,
  { lookEveryMs, ...options }: StartOptions = {},
): Promise<CreatedChandlery> {
  const file = join(directory, 'chandlery.yaml')
  const fixed = {
    listen: '127.0.0.1:0',
    admin: { listen: '127.0.0.1:0' },
    storage: { directory: join(directory, 'cache') },
  }
  await mkdir(directory, { recursive: true })
  // JSON is valid YAML.
  await writeFile(file, JSON.stringify({ ...fixed, ...config }))
  const log: Record<string, unknown>[] = []
  const destination = { write: (line: string) => void log.push(JSON.parse(line)) }
  const load = () => loadConfig({ config: file }, {})
  const loaded = await load()
  const logger = createLogger({ level: 'info', destination })
  const server = new Chandlery(loaded.config, {
    reloads: { loaded, load, ...(lookEveryMs !== undefined && { lookEveryMs }) },
    ...options,
    version: '0.0.0-test',
    logger,
  })
  return { server, file, log }
}

/**
 * Returns the configuration of one registry, `registry`, behind one endpoint and without its
 * default endpoint.
 */
export function mirrorOf(
  registry: string,
  ...endpoints: string[]
): { defaultEndpoints: false; mirrors: Record<string, { endpoint: string[] }> } {
  return { defaultEndpoints: false, mirrors: { [registry]: { endpoint: endpoints } } }
}
