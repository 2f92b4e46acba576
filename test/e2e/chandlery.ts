// Chandlery itself, started as a user starts it: `chandlery serve --config FILE`.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { answers, Daemon, freePort, tail } from './processes.ts'

// E2E_CHANDLERY: another launcher, to try a copy or another version with the same scenario.
const LAUNCHER =
  process.env.E2E_CHANDLERY ?? fileURLToPath(import.meta.resolve('../../bin/chandlery.js'))

export interface ChandleryOptions {
  /** Where its files go: configuration, log, and the cache unless `cache` says otherwise. */
  readonly directory: string
  /** The cache directory of another Chandlery. */
  readonly cache?: string
  /** More of the configuration: `mirrors`, `configs`, … */
  readonly config: Readonly<Record<string, unknown>>
}

export class Chandlery implements AsyncDisposable {
  readonly host: string
  readonly port: number
  readonly url: string
  readonly adminUrl: string
  readonly cache: string
  readonly #options: ChandleryOptions
  readonly #adminHost: string
  #daemon: Daemon | undefined

  private constructor(options: ChandleryOptions, port: number, adminPort: number) {
    this.#options = options
    this.cache = options.cache ?? `${options.directory}/cache`
    this.port = port
    this.host = `127.0.0.1:${port}`
    this.url = `http://${this.host}`
    this.#adminHost = `127.0.0.1:${adminPort}`
    this.adminUrl = `http://${this.#adminHost}`
  }

  /** A server with ports of its own, not started yet. */
  static async create(options: ChandleryOptions): Promise<Chandlery> {
    return new Chandlery(options, await freePort(), await freePort())
  }

  get pid(): number {
    return this.#daemon?.pid ?? 0
  }

  /** Starts it without waiting until it is ready. */
  async launch(): Promise<Daemon> {
    const { directory } = this.#options
    await mkdir(directory, { recursive: true })
    const config = `${directory}/chandlery.yaml`
    // JSON is YAML.
    await writeFile(config, JSON.stringify(this.#config(), undefined, 2))
    const args = [LAUNCHER, 'serve', '--config', config]
    this.#daemon = new Daemon('chandlery', process.execPath, args, `${directory}/chandlery.log`)
    return this.#daemon
  }

  /** Starts it, again too, and waits until it is ready. */
  async start(): Promise<void> {
    const daemon = await this.launch()
    await daemon.until(() => answers(`${this.adminUrl}/readyz`, 200))
  }

  /** Everything it printed, over all its starts. */
  async log(): Promise<string> {
    return await readFile(`${this.#options.directory}/chandlery.log`, 'utf8')
  }

  /** The end of the log without its informative lines. */
  async complaints(): Promise<string> {
    const lines = (await this.log()).split('\n')
    return tail(lines.filter((line) => !line.startsWith('{"level":"info"')).join('\n'))
  }

  async stop(signal?: NodeJS.Signals): Promise<number | null> {
    const code = (await this.#daemon?.stop(signal)) ?? null
    this.#daemon = undefined
    return code
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  #config(): unknown {
    return {
      listen: this.host,
      admin: { listen: this.#adminHost },
      storage: { directory: this.cache },
      // Nothing may leave the machine: no registry's own endpoint.
      defaultEndpoints: false,
      ...this.#options.config,
    }
  }
}
