// Reads the configuration again, when its files change or somebody asks, and has it put into force as a
// whole or not at all. What that means for the server is Chandlery's to know.
import type { ReloadOutcome } from '../admin/reload.ts'
import { changedKeys, restartKeys, withoutRestart } from '../config/changes.ts'
import type { Config } from '../config/config.ts'
import { FileWatch, NO_FILE, type Prints, readPrints } from '../config/file-watch.ts'
import type { Loaded } from '../config/load.ts'
import { ConfigError, formatProblem } from '../config/problem.ts'

export interface ReloadingOptions {
  /** What the server was started with. */
  readonly loaded: Loaded
  /** Reads all of it again. Throws ConfigError. */
  readonly load: () => Promise<Loaded>
  /** Puts a configuration into force, all at once. Throws, with nothing changed, where it cannot be used. */
  readonly apply: (config: Config, changed: { readonly files: boolean }) => Promise<void>
  readonly onOutcome: (outcome: ReloadOutcome, trigger: string) => void
  readonly onError: (error: unknown) => void
  /** How often files are looked at, in milliseconds. */
  readonly lookEveryMs: number
}

/** What a person has to do is told by this. */
interface Refused {
  readonly problems: readonly string[]
  readonly at: Date
}

export class Reloading {
  readonly #options: ReloadingOptions
  readonly #watch: FileWatch
  /** What only a restart changes is as it was at the start. */
  readonly #running: Config
  #wanted: Loaded
  /** Of the files when they were last good. */
  #prints: Prints = new Map()
  /** Named by a configuration that was refused: one of them may be what has to change. */
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
      files: () => this.#files(),
      everyMs: options.lookEveryMs,
      onChange: async () => void (await this.reload('a file changed')),
      onError: options.onError,
    })
  }

  /** From now on files are looked at. */
  async start(): Promise<void> {
    this.#prints = await readPrints(this.#files())
    this.#watch.settle(this.#prints)
    if (!this.#stopped) this.#watch.start()
  }

  stop(): void {
    this.#stopped = true
    this.#watch.stop()
  }

  /** One at a time; who asks while one runs is given the next one's outcome. Never rejects. */
  reload(trigger: string): Promise<ReloadOutcome> {
    this.#next ??= this.#last.then(() => {
      const now = this.#perform(trigger)
      this.#last = now
      this.#next = undefined
      return now
    })
    return this.#next
  }

  /** For people, a line each. */
  describe(): string[] {
    const keys = restartKeys(this.#running, this.#wanted.config)
    const restart =
      keys.length === 0 ? [] : [`configuration: a restart is needed for ${keys.join(', ')}`]
    if (this.#refused === undefined) return restart
    const { at, problems } = this.#refused
    const head = `configuration: refused at ${at.toISOString()}, the former one holds:`
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
    const before = await readPrints(this.#files())
    const outcome = await this.#attemptWith(before)
    if (outcome.result !== 'refused') return outcome
    const after = await readPrints(this.#files())
    // It may have been read while it was written.
    const isSame = [...before].every(([file, print]) => after.get(file) === print)
    return isSame ? outcome : await this.#attemptWith(after)
  }

  async #attemptWith(before: Prints): Promise<ReloadOutcome> {
    try {
      const once = this.#wanted.sources.find((file) => before.get(file) === NO_FILE)
      if (once !== undefined)
        return refused([`${once}: is no file, and cannot be read again; restart`])
      const loaded = await this.#options.load()
      const prints = await readPrints([...loaded.sources, ...loaded.files])
      const outcome = await this.#use(loaded, prints)
      this.#attempted = []
      this.#settle(before, prints)
      return outcome
    } catch (error) {
      this.#attempted = error instanceof ConfigError ? error.files : this.#attempted
      const prints = await readPrints(this.#files())
      await this.#keepUp(prints)
      this.#settle(before, prints)
      return refused(problemsOf(error))
    }
  }

  /** The former one stays, but its files may have rotated: what can be used of them is, else what was. */
  async #keepUp(prints: Prints): Promise<void> {
    const { config, files } = this.#wanted
    if (this.#changedOf(files, prints).length === 0) return
    const inForce = withoutRestart(this.#running, config)
    await this.#options.apply(inForce, { files: true }).catch(() => undefined)
  }

  async #use(loaded: Loaded, prints: Prints): Promise<ReloadOutcome> {
    const { config, files } = loaded
    const keys = changedKeys(this.#wanted.config, config)
    const changedFiles = this.#changedOf(files, prints)
    const inForce = withoutRestart(this.#running, config)
    await this.#options.apply(inForce, { files: changedFiles.length > 0 })
    this.#wanted = loaded
    this.#prints = prints
    const changed = [...keys, ...changedFiles]
    return {
      result: changed.length > 0 ? 'reloaded' : 'unchanged',
      changed,
      restart: restartKeys(this.#running, config),
      warnings: loaded.warnings.map(formatProblem),
    }
  }

  #changedOf(files: readonly string[], prints: Prints): string[] {
    return files.filter((file) => {
      const former = this.#prints.get(file)
      return former !== undefined && former !== prints.get(file)
    })
  }

  /** What changed after it was read is still to come. */
  #settle(before: Prints, now: Prints): void {
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

/** Of a configuration the errors; its warnings stand when it is used. */
function problemsOf(error: unknown): string[] {
  if (!(error instanceof ConfigError))
    return [error instanceof Error ? error.message : String(error)]
  return error.problems.filter(({ severity }) => severity === 'error').map(formatProblem)
}
