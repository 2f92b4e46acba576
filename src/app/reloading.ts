// Reads the configuration again when its files change or somebody asks, and has it applied as a whole or
// not at all. Applying it is Chandlery's business.
import type { ReloadOutcome } from '../admin/reload.ts'
import { changedKeys, restartKeys, withoutRestart } from '../config/changes.ts'
import type { Config } from '../config/config.ts'
import type { Loaded } from '../config/load.ts'
import { ConfigError, formatProblem } from '../config/problem.ts'
import { FileWatch } from '../files/file-watch.ts'
import { FingerprintReader, type Fingerprints, NOT_REGULAR } from '../files/fingerprints.ts'

export interface ReloadingOptions {
  /** The configuration that the server was started with. */
  readonly loaded: Loaded
  /** Loads the whole configuration again. Throws ConfigError. */
  readonly load: () => Promise<Loaded>
  /** Applies a configuration at once. Throws, with nothing changed, if it cannot be used. */
  readonly apply: (config: Config, changed: { readonly files: boolean }) => Promise<void>
  readonly onOutcome: (outcome: ReloadOutcome, trigger: string) => void
  readonly onError: (error: unknown) => void
  /** How often the files are looked at, in milliseconds. */
  readonly lookEveryMs: number
}

/** A configuration that was refused, and what has to be mended in it. */
interface Refused {
  readonly problems: readonly string[]
  readonly at: Date
}

export class Reloading {
  readonly #options: ReloadingOptions
  readonly #watch: FileWatch
  /** The configuration at the start. Some of its settings change only with a restart. */
  readonly #running: Config
  #wanted: Loaded
  readonly #reader = new FingerprintReader()
  /** The fingerprints of the files when they were last good. */
  #fingerprints: Fingerprints = new Map()
  /** The files of a configuration that was refused: mending it may change any of them. */
  #attempted: readonly string[] = []
  #refused: Refused | undefined
  #last: Promise<unknown> = Promise.resolve()
  #next: Promise<ReloadOutcome> | undefined
  #stopped = false

  constructor(options: ReloadingOptions) {
    this.#options = options
    this.#running = options.loaded.config
    this.#wanted = options.loaded
    this.#watch = new FileWatch({
      reader: this.#reader,
      files: () => this.#files(),
      everyMs: options.lookEveryMs,
      onChange: async () => void (await this.reload('a file changed')),
      onError: options.onError,
    })
  }

  /** Starts to look at the files. */
  async start(): Promise<void> {
    this.#fingerprints = await this.#reader.read(this.#files())
    this.#watch.settle(this.#fingerprints)
    if (!this.#stopped) this.#watch.start()
  }

  stop(): void {
    this.#stopped = true
    this.#watch.stop()
  }

  /** Reloads, one at a time: who asks while one runs gets the outcome of the next. Never rejects. */
  reload(trigger: string): Promise<ReloadOutcome> {
    this.#next ??= this.#last.then(() => {
      const now = this.#perform(trigger)
      this.#last = now
      this.#next = undefined
      return now
    })
    return this.#next
  }

  /** Returns what people should know, a line each. */
  describe(): string[] {
    const keys = restartKeys(this.#running, this.#wanted.config)
    const restart =
      keys.length === 0 ? [] : [`configuration: a restart is needed for ${keys.join(', ')}`]
    if (this.#refused === undefined) return restart
    const { at, problems } = this.#refused
    const head = `configuration: refused at ${at.toISOString()}, the former one is in use:`
    return [head, ...problems.map((problem) => `  ${problem}`), ...restart]
  }

  async #perform(trigger: string): Promise<ReloadOutcome> {
    const outcome = await this.#attempt()
    const isRefused = outcome.result === 'refused'
    this.#refused = isRefused ? { problems: outcome.problems, at: new Date() } : undefined
    this.#options.onOutcome(outcome, trigger)
    return outcome
  }

  async #attempt(): Promise<ReloadOutcome> {
    const before = await this.#reader.read(this.#files())
    const outcome = await this.#attemptWith(before)
    if (outcome.result !== 'refused') return outcome
    const after = await this.#reader.read(this.#files())
    // The files may have been read while they were being written.
    const isSame = [...before].every(([file, print]) => after.get(file) === print)
    return isSame ? outcome : await this.#attemptWith(after)
  }

  async #attemptWith(before: Fingerprints): Promise<ReloadOutcome> {
    try {
      const once = this.#wanted.sources.find((file) => before.get(file) === NOT_REGULAR)
      if (once !== undefined)
        return refused([
          `${once}: is not a regular file and cannot be read again: restart the server`,
        ])
      const loaded = await this.#options.load()
      const fingerprints = await this.#reader.read([...loaded.sources, ...loaded.files])
      const outcome = await this.#use(loaded, fingerprints)
      this.#attempted = []
      this.#settle(before, fingerprints)
      return outcome
    } catch (error) {
      this.#attempted = error instanceof ConfigError ? error.files : this.#attempted
      const fingerprints = await this.#reader.read(this.#files())
      await this.#keepUp(fingerprints)
      this.#settle(before, fingerprints)
      return refused(problemsOf(error))
    }
  }

  /** The former configuration stays, but its files may have rotated: uses those of them that are good. */
  async #keepUp(fingerprints: Fingerprints): Promise<void> {
    const { config, files } = this.#wanted
    if (this.#changedOf(files, fingerprints).length === 0) return
    const inForce = withoutRestart(this.#running, config)
    await this.#options.apply(inForce, { files: true }).catch(() => undefined)
  }

  async #use(loaded: Loaded, fingerprints: Fingerprints): Promise<ReloadOutcome> {
    const { config, files } = loaded
    const keys = changedKeys(this.#wanted.config, config)
    const changedFiles = this.#changedOf(files, fingerprints)
    const inForce = withoutRestart(this.#running, config)
    await this.#options.apply(inForce, { files: changedFiles.length > 0 })
    this.#wanted = loaded
    this.#fingerprints = fingerprints
    const changed = [...keys, ...changedFiles]
    return {
      result: changed.length > 0 ? 'reloaded' : 'unchanged',
      changed,
      restart: restartKeys(this.#running, config),
      warnings: loaded.warnings.map(formatProblem),
    }
  }

  #changedOf(files: readonly string[], fingerprints: Fingerprints): string[] {
    return files.filter((file) => {
      const former = this.#fingerprints.get(file)
      return former !== undefined && former !== fingerprints.get(file)
    })
  }

  /** Settles what was read. A change after the files were read is still to be reported. */
  #settle(before: Fingerprints, now: Fingerprints): void {
    this.#watch.settle(new Map([...now].map(([file, print]) => [file, before.get(file) ?? print])))
  }

  #files(): string[] {
    const { sources, files } = this.#wanted
    return [...new Set([...sources, ...files, ...this.#attempted])]
  }
}

function refused(problems: readonly string[]): ReloadOutcome {
  return { result: 'refused', problems }
}

/** Returns the errors. The warnings are reported when the configuration is used. */
function problemsOf(error: unknown): string[] {
  if (!(error instanceof ConfigError))
    return [error instanceof Error ? error.message : String(error)]
  return error.problems.filter(({ severity }) => severity === 'error').map(formatProblem)
}
