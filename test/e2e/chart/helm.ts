// The helm program on our chart. It asks no cluster.
import { type Finished, run, tryRun } from '../processes.ts'

const CHART = 'helm/chandlery'
const RELEASE = ['chandlery', CHART, '--namespace', 'registry']

export class Helm {
  readonly #program: string

  constructor(program: string) {
    this.#program = program
  }

  async lint(): Promise<void> {
    await run(this.#program, ['lint', '--strict', CHART])
  }

  /** The objects as YAML. */
  async template(args: readonly string[]): Promise<string> {
    return await run(this.#program, ['template', ...RELEASE, ...args])
  }

  async tryTemplate(args: readonly string[]): Promise<Finished> {
    return await tryRun(this.#program, ['template', ...RELEASE, ...args])
  }

  /** What helm install tells at its end. */
  async notes(args: readonly string[]): Promise<string> {
    const all = await run(this.#program, ['install', ...RELEASE, '--dry-run=client', ...args])
    return all.slice(all.indexOf('NOTES:'))
  }
}
